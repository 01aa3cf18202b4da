//! Versions and ciphers, by OpenSSL's names (`--ssl-protocols`, `--ssl-ciphers`).
//!
//! Only versions 1.2 and 1.3 are spoken. Of a list of ciphers the names that are known count; classes
//! (`HIGH:!aNULL:!MD5`) exclude nothing, as what they are meant to exclude is not there.

use rustls::crypto::{CryptoProvider, ring};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, SupportedProtocolVersion};

/// Which versions and ciphers may be spoken.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Protocols {
    v12: bool,
    v13: bool,
    /// Ciphers, as bits of [`CIPHERS`]; 0 for all.
    ciphers: u16,
}

impl Default for Protocols {
    fn default() -> Self {
        Protocols { v12: true, v13: true, ciphers: 0 }
    }
}

/// A list of versions of which none is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: SSL/TLS protocol not recognized; TLSv1.2 and TLSv1.3 are")]
pub struct BadProtocol(String);

/// Ciphers and OpenSSL's names for them.
const CIPHERS: [(CipherSuite, &str); 9] = [
    (CipherSuite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384"),
    (CipherSuite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256"),
    (CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256"),
    (CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305"),
];

impl Protocols {
    /// Allows the versions of a list, `TLSv1.2,TLSv1.3`; a `+` behind one means those above it too.
    ///
    /// # Errors
    /// A word is no version, or none that is spoken is there; nothing changes then.
    pub fn set_versions(&mut self, text: &str) -> Result<(), BadProtocol> {
        let mut p = Protocols { v12: false, v13: false, ..*self };
        for word in text.split([',', ' ', '\t']).filter(|w| !w.is_empty()) {
            match word {
                "TLSv1.2" => p.v12 = true,
                "TLSv1.3" | "TLSv1.3+" => p.v13 = true,
                "TLSv1+" | "TLSv1.1+" | "TLSv1.2+" => (p.v12, p.v13) = (true, true),
                // Known, and not spoken any more.
                "TLSv1" | "TLSv1.1" => {}
                _ => return Err(BadProtocol(word.to_owned())),
            }
        }
        if !p.v12 && !p.v13 {
            return Err(BadProtocol(text.to_owned()));
        }
        *self = p;
        Ok(())
    }

    /// Restricts the ciphers of the versions that a list (`A:B:…`) names some of.
    pub fn restrict(&mut self, ciphers: &str) {
        for (i, (_, name)) in CIPHERS.iter().enumerate() {
            if ciphers.split([':', ',', ' ']).any(|w| w == *name) {
                self.ciphers |= 1 << i;
            }
        }
    }

    pub(crate) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        match (self.v12, self.v13) {
            (true, false) => &BOTH[1..],
            (false, true) => &BOTH[..1],
            _ => &BOTH,
        }
    }

    pub(crate) fn provider(self) -> CryptoProvider {
        let mut p = ring::default_provider();
        // A list for one version leaves the other alone.
        let named = |new: bool| {
            (0..).zip(&CIPHERS).any(|(i, (s, _))| self.ciphers >> i & 1 != 0 && is_13(*s) == new)
        };
        let (old, new) = (named(false), named(true));
        p.cipher_suites.retain(|s| {
            let suite = s.suite();
            let restricted = if is_13(suite) { new } else { old };
            let at = CIPHERS.iter().position(|c| c.0 == suite);
            !restricted || at.is_some_and(|i| self.ciphers >> i & 1 != 0)
        });
        p
    }
}

fn is_13(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_256_GCM_SHA384
            | CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_versions() {
        let versions = |text: &str| {
            let mut p = Protocols::default();
            p.set_versions(text).map(|()| (p.v12, p.v13))
        };
        assert_eq!(versions("TLSv1.2"), Ok((true, false)));
        assert_eq!(versions("TLSv1,TLSv1.1,TLSv1.2"), Ok((true, false)));
        assert_eq!(versions("TLSv1.2 TLSv1.3"), Ok((true, true)));
        assert_eq!(versions("TLSv1.2+"), Ok((true, true)));
        for bad in ["", "TLSv1", "SSLv3", "tlsv1.2"] {
            assert!(versions(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_of_ciphers() {
        let all = ring::default_provider().cipher_suites.len();
        assert_eq!(all, CIPHERS.len(), "each has a name");
        let count = |text: &str| {
            let mut p = Protocols::default();
            p.restrict(text);
            p.provider().cipher_suites.len()
        };
        assert_eq!(count("HIGH:!aNULL:!MD5"), all);
        assert_eq!(count("ECDHE-RSA-AES256-GCM-SHA384"), 1 + 3);
        assert_eq!(count("TLS_AES_128_GCM_SHA256:HIGH"), 1 + 6);
    }
}
