//! The options that say with which keys to speak TLS (`ovs-vsctl(8)`, "Public Key Infrastructure
//! Options").

use std::path::PathBuf;

use tls::{Ca, Context, Files, Protocols};

use crate::applet::Failure;
use crate::getopt::{Arg, Opt};

/// Long and short names.
const NAMES: [(&str, Option<char>); 7] = [
    ("private-key", Some('p')),
    ("certificate", Some('c')),
    ("ca-cert", Some('C')),
    ("bootstrap-ca-cert", None),
    ("peer-ca-cert", None),
    ("ssl-protocols", None),
    ("ssl-ciphers", None),
];

/// The rows of the options, with this id.
pub fn options<T: Copy>(id: T) -> [Opt<T>; 7] {
    NAMES.map(|(long, short)| Opt { long, short, arg: Arg::Required, id })
}

/// What they said.
#[derive(Clone, Debug, Default)]
pub struct Pki {
    private_key: Option<PathBuf>,
    certificate: Option<PathBuf>,
    ca: Option<Ca>,
    present: Option<PathBuf>,
    protocols: Protocols,
}

impl Pki {
    /// Takes an option by its long name; others are none of its business.
    ///
    /// # Errors
    /// A version of TLS that is none.
    pub fn set(&mut self, long: &str, value: &str) -> Result<(), Failure> {
        let path = || PathBuf::from(value);
        match long {
            "private-key" => self.private_key = Some(path()),
            "certificate" => self.certificate = Some(path()),
            "ca-cert" if value == "none" => self.ca = Some(Ca::None),
            "ca-cert" => self.ca = Some(Ca::File(path())),
            "bootstrap-ca-cert" => self.ca = Some(Ca::Bootstrap(path())),
            "peer-ca-cert" => self.present = Some(path()),
            "ssl-protocols" => {
                let bad = |e: tls::BadProtocol| Failure::fatal(e.to_string());
                self.protocols.set_versions(value).map_err(bad)?;
            }
            "ssl-ciphers" => self.protocols.restrict(value),
            _ => {}
        }
        Ok(())
    }

    /// The files, if any were named.
    ///
    /// # Errors
    /// One is missing.
    pub fn files(&self) -> Result<Option<Files>, Failure> {
        let missing = |what: &str| {
            Failure::fatal(format!("{what} must be configured to use SSL/TLS (see --help)"))
        };
        if self.private_key.is_none() && self.certificate.is_none() && self.ca.is_none() {
            return Ok(None);
        }
        Ok(Some(Files {
            private_key: self.private_key.clone().ok_or_else(|| missing("Private key"))?,
            certificate: self.certificate.clone().ok_or_else(|| missing("Certificate"))?,
            ca: self.ca.clone().ok_or_else(|| missing("CA certificate"))?,
            present: self.present.clone(),
            protocols: self.protocols,
        }))
    }

    /// What the files make.
    ///
    /// # Errors
    /// One is missing, or of no use.
    pub fn context(&self) -> Result<Option<Context>, Failure> {
        let files = self.files()?;
        let load = |f: &Files| Context::load(f).map_err(|e| Failure::fatal(e.to_string()));
        files.as_ref().map(load).transpose()
    }
}
