//! Port backends: AF_PACKET, taps, links by netlink.
