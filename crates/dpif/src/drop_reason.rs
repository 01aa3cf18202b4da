//! Why packets are dropped: one row per reason.

macro_rules! drop_reasons {
    ($($reason:ident, $name:literal, $doc:literal;)*) => {
        /// Why a packet was dropped. Every dropped packet has exactly one.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $doc] $reason,)*
        }

        impl DropReason {
            /// All reasons in order: reason, the name of its counter in `coverage/show`, what
            /// happened.
            pub const ALL: &'static [(DropReason, &'static str, &'static str)] =
                &[$((DropReason::$reason, $name, $doc),)*];
        }
    };
}

drop_reasons! {
    Pipeline, "drop_action_of_pipeline",
        "The flow tables say so: a drop action, an empty action list or a table miss.";
    BridgeNotFound, "drop_action_bridge_not_found",
        "The packet came in by a port of no bridge.";
    RecursionTooDeep, "drop_action_recursion_too_deep",
        "The flow tables resubmit into each other beyond the limit.";
    TooManyResubmits, "drop_action_too_many_resubmit",
        "One packet needs more resubmits than allowed.";
    StackTooDeep, "drop_action_stack_too_deep",
        "The push actions of one packet need more stack than allowed.";
    NoRecirculationContext, "drop_action_no_recirculation_context",
        "The pipeline state that a recirculated packet should resume is gone.";
    RecirculationConflict, "drop_action_recirculation_conflict",
        "A recirculated packet came back where recirculation is not possible.";
    TooManyMplsLabels, "drop_action_too_many_mpls_labels",
        "More MPLS labels are pushed than can be held.";
    InvalidTunnelMetadata, "drop_action_invalid_tunnel_metadata",
        "The packet's tunnel options are malformed.";
    UnsupportedPacketType, "drop_action_unsupported_packet_type",
        "The pipeline cannot handle packets of this type.";
    Congestion, "drop_action_congestion",
        "A tunnel with congestion marks carried a packet that cannot be marked.";
    ForwardingDisabled, "drop_action_forwarding_disabled",
        "The ingress port is down, blocked by spanning tree, or must not receive.";
    TunnelRouting, "drop_action_tunnel_routing_failed",
        "No route or neighbour for the tunnel's remote end.";
    RxInvalidPacket, "datapath_drop_rx_invalid_packet",
        "The frame is shorter than an Ethernet header.";
    UpcallError, "datapath_drop_upcall_error",
        "The slow path gave no answer.";
    UserspaceAction, "datapath_drop_userspace_action_error",
        "The slow path refused a packet that an action sent to it.";
    Recirculation, "datapath_drop_recirc_error",
        "The packet was recirculated more often than the limit.";
    InvalidPort, "datapath_drop_invalid_port",
        "Output to a port that does not exist (any more).";
    TxFull, "datapath_drop_tx_failed",
        "The output port did not take the packet: queue full, link down, or too big.";
    NatExhausted, "datapath_drop_nat_exhausted",
        "No address and port was free to translate a new connection to.";
    FragmentExpired, "datapath_drop_fragment_expired",
        "An IP fragment whose datagram was not whole in time.";
    FragmentEvicted, "datapath_drop_fragment_evicted",
        "A waiting IP fragment that had to make room for those of a port that holds less.";
    Meter, "datapath_drop_meter",
        "The packet exceeds a meter's rate.";
    SampleError, "datapath_drop_sample_error",
        "A sample action could not run.";
    NestingTooDeep, "datapath_drop_nesting_too_deep",
        "Actions are nested deeper than the limit.";
    InvalidAction, "datapath_drop_invalid_action",
        "An action cannot act on this packet: the header it changes is not there.";
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Name of the counter.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// What happened, in a sentence.
    pub fn doc(self) -> &'static str {
        Self::ALL[self as usize].2
    }
}

impl core::fmt::Display for DropReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_at_their_own_number_and_names_are_unique() {
        for (i, (reason, name, _)) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i);
            assert_eq!(DropReason::ALL.iter().filter(|(_, n, _)| n == name).count(), 1, "{name}");
        }
    }
}
