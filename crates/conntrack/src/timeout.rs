//! How long a connection lives after its last packet: one table of classes, and policies that
//! override it.
//!
//! Defaults are those of OVS's userspace tracker (`man ovs-vswitchd.conf.db`, table
//! CT_Timeout_Policy, gives the keys; the numbers are observed).

use base::Duration;
use packet::header::ipproto;

macro_rules! classes {
    ($($(#[$doc:meta])* $id:ident $key:literal $secs:literal;)*) => {
        /// What a connection is waiting for.
        #[derive(Copy, Clone, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum TimeoutClass {
            $($(#[$doc])* $id,)*
        }

        /// Number of classes.
        pub const N_CLASSES: usize = [$(TimeoutClass::$id,)*].len();

        impl TimeoutClass {
            /// All classes.
            pub const ALL: [TimeoutClass; N_CLASSES] = [$(TimeoutClass::$id,)*];

            /// The key in a timeout policy.
            pub const fn key(self) -> &'static str {
                match self { $(TimeoutClass::$id => $key,)* }
            }

            /// Seconds unless a policy says otherwise.
            pub const fn default_secs(self) -> u32 {
                match self { $(TimeoutClass::$id => $secs,)* }
            }
        }
    };
}

classes! {
    /// A first segment, unanswered.
    TcpSynSent "tcp_syn_sent" 30;
    /// Answered, the handshake is not complete.
    TcpSynRecv "tcp_syn_recv" 30;
    /// Both ends may send.
    TcpEstablished "tcp_established" 86400;
    /// One end has sent FIN.
    TcpFinWait "tcp_fin_wait" 900;
    /// Both ends have sent FIN, not both are acknowledged.
    TcpTimeWait "tcp_time_wait" 45;
    /// Both FINs acknowledged, or reset.
    TcpClose "tcp_close" 30;
    /// One packet of UDP or another protocol.
    UdpFirst "udp_first" 60;
    /// More packets of the same direction.
    UdpSingle "udp_single" 60;
    /// Packets of both directions.
    UdpMultiple "udp_multiple" 30;
    /// A query.
    IcmpFirst "icmp_first" 60;
    /// An answered query.
    IcmpReply "icmp_reply" 30;
}

/// Keys of a timeout policy that a tracker of this kind has no state for; accepted, no effect.
pub const UNUSED_POLICY_KEYS: [&str; 5] =
    ["tcp_close_wait", "tcp_last_ack", "tcp_syn_sent2", "tcp_retransmit", "tcp_unack"];

/// Timeouts by class, in seconds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TimeoutPolicy {
    secs: [u32; N_CLASSES],
}

impl TimeoutPolicy {
    /// The defaults.
    pub const DEFAULT: TimeoutPolicy = {
        let mut secs = [0; N_CLASSES];
        let mut i = 0;
        while i < N_CLASSES {
            secs[i] = TimeoutClass::ALL[i].default_secs();
            i += 1;
        }
        TimeoutPolicy { secs }
    };

    /// Whether policies say something of an IP protocol. Others keep to the defaults.
    pub const fn covers(proto: u8) -> bool {
        matches!(proto, ipproto::TCP | ipproto::UDP | ipproto::ICMP | ipproto::ICMPV6)
    }

    /// The timeout of a class.
    #[inline]
    pub const fn get(&self, class: TimeoutClass) -> Duration {
        Duration::from_secs(self.secs[class as usize] as u64)
    }

    /// Sets the timeout of a class in seconds.
    pub const fn set(&mut self, class: TimeoutClass, secs: u32) {
        self.secs[class as usize] = secs;
    }

    /// Sets by policy key; `false` if there is no such key.
    pub fn set_key(&mut self, key: &str, secs: u32) -> bool {
        match TimeoutClass::ALL.into_iter().find(|c| c.key() == key) {
            Some(c) => {
                self.set(c, secs);
                true
            }
            None => UNUSED_POLICY_KEYS.contains(&key),
        }
    }
}

impl Default for TimeoutPolicy {
    fn default() -> Self {
        TimeoutPolicy::DEFAULT
    }
}
