//! What the kernel tells of links; another namespace's owner names them.
//!
//! Input: a datagram.

/// Reads a datagram.
pub fn target(data: &[u8]) {
    for link in netdev::link::links_of_datagram(data) {
        let _ = link.stats.inverted();
        assert!(!link.name.contains('\0'));
    }
}
