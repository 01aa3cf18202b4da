//! Packet builder, simulated clock, network namespaces and guests for tests.
