//! TLS with the files and habits of Open vSwitch (`ovs-vswitchd.conf.db(5)`, table SSL;
//! `ovs-vsctl(8)`, "Public Key Infrastructure Options").
//!
//! Both ends present a certificate. A peer is trusted if a CA of ours signed it, or if it is one of
//! those in our CA file itself; the names in certificates are not looked at, as peers are known by
//! address. A CA file that is not there yet can be *bootstrapped*: the first peer is believed, and
//! the CA that it presents is trusted from then on.
//!
//! [`Context`] is what the files make; [`Stream`] is a blocking connection. Who waits for many at
//! once takes [`Context::client`] and [`Context::server`] to a library that does.

mod protocols;
mod stream;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

pub use protocols::{BadProtocol, Protocols};
pub use stream::Stream;

use verify::Peers;

/// Whom to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ca {
    /// Who is signed by a certificate of this file.
    File(PathBuf),
    /// The same; if the file does not exist, the first peer says what is to be in it.
    Bootstrap(PathBuf),
    /// Anybody.
    None,
}

/// Where keys and certificates are. Files are in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Our private key.
    pub private_key: PathBuf,
    /// Our certificate, and those that lead from it to the CA.
    pub certificate: PathBuf,
    /// Whom to trust.
    pub ca: Ca,
    /// More certificates to present behind ours, for peers that bootstrap.
    pub present: Option<PathBuf>,
    /// Versions and ciphers.
    pub protocols: Protocols,
}

/// Why the files are of no use, or a peer is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read, or is none of its kind.
    #[error("{0}: {1}")]
    File(PathBuf, String),
    /// The key is not the certificate's, and the like.
    #[error("{0}")]
    Config(#[from] rustls::Error),
    /// There is no CA file to serve with.
    #[error("{0}: there is no CA certificate yet")]
    NoCa(PathBuf),
    /// The first peer presents no CA that signed it.
    #[error("could not bootstrap CA cert: the peer presents no CA certificate that signed it")]
    NoCaPresented,
}

impl From<Error> for io::Error {
    fn from(e: Error) -> io::Error {
        io::Error::other(e.to_string())
    }
}

/// What the files make.
#[derive(Clone, Debug)]
pub struct Context {
    client: Arc<ClientConfig>,
    server: Option<Arc<ServerConfig>>,
    provider: Arc<CryptoProvider>,
    /// Where a bootstrapped CA is to be written.
    bootstrap: Option<PathBuf>,
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bad = |why: String| Error::File(path.to_owned(), why);
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match all {
        Ok(all) if all.is_empty() => Err(bad("no certificate in it".into())),
        Ok(all) => Ok(all),
        Err(e) => Err(bad(e.to_string())),
    }
}

impl Context {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be read or used.
    pub fn load(files: &Files) -> Result<Context, Error> {
        let provider = Arc::new(files.protocols.provider());
        let key = PrivateKeyDer::from_pem_file(&files.private_key)
            .map_err(|e| Error::File(files.private_key.clone(), e.to_string()))?;
        let mut chain = certificates(&files.certificate)?;
        if let Some(more) = &files.present {
            chain.extend(certificates(more)?);
        }
        let (path, bootstrap) = match &files.ca {
            Ca::File(path) => (Some(path), None),
            Ca::Bootstrap(path) if !path.exists() => (None, Some(path.clone())),
            Ca::Bootstrap(path) => (Some(path), None),
            Ca::None => (None, None),
        };
        let peers = match path {
            Some(path) => Some(Peers::new(certificates(path)?, &provider, path)?),
            None => None,
        };
        let versions = files.protocols.versions();
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(match &peers {
                Some(peers) => Arc::clone(peers) as _,
                None => verify::anybody(&provider),
            })
            .with_client_auth_cert(chain.clone(), key.clone_key())?;
        let server = match &bootstrap {
            Some(_) => None,
            None => {
                let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
                    .with_protocol_versions(versions)?;
                let server = match &peers {
                    Some(peers) => server.with_client_cert_verifier(Arc::clone(peers) as _),
                    None => server.with_no_client_auth(),
                };
                Some(Arc::new(server.with_single_cert(chain, key)?))
            }
        };
        Ok(Context { client: Arc::new(client), server, provider, bootstrap })
    }

    /// For who connects. Call [`Context::handshaken`] when the handshake is done.
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }

    /// For who is connected to.
    ///
    /// # Errors
    /// The CA is still to be bootstrapped, which only who connects can do.
    pub fn server(&self) -> Result<Arc<ServerConfig>, Error> {
        let no_ca = || Error::NoCa(self.bootstrap.clone().unwrap_or_default());
        self.server.clone().ok_or_else(no_ca)
    }

    /// Looks at what the peer presented. If a CA is to be bootstrapped, checks that the last of it
    /// signed the first, and writes it to the CA file: load that before the next connection.
    ///
    /// # Errors
    /// There is no such CA, or the file cannot be written.
    pub fn handshaken(&self, presented: Option<&[CertificateDer<'_>]>) -> Result<(), Error> {
        let Some(path) = &self.bootstrap else { return Ok(()) };
        let (leaf, ca) = match presented {
            Some([leaf, .., ca]) => (leaf, ca),
            _ => return Err(Error::NoCaPresented),
        };
        let between = presented.and_then(|p| p.get(1..)).unwrap_or_default();
        let peers = Peers::new(vec![ca.clone().into_owned()], &self.provider, path)?;
        if !peers.trusts(leaf, between) {
            return Err(Error::NoCaPresented);
        }
        let write = || {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path)?;
            io::Write::write_all(&mut file, to_pem(ca).as_bytes())
        };
        write().map_err(|e| Error::File(path.clone(), e.to_string()))
    }

    /// The name for the other end's `host`, which is an address or a domain name.
    pub fn server_name(host: &str) -> ServerName<'static> {
        // Names are not verified; one that is none cannot be sent.
        let local = ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into());
        ServerName::try_from(host.to_owned()).unwrap_or(local)
    }
}

fn roots(all: &[CertificateDer<'static>], path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for ca in all {
        roots.add(ca.clone()).map_err(|e| Error::File(path.to_owned(), e.to_string()))?;
    }
    Ok(roots)
}

fn to_pem(certificate: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in certificate.chunks(48) {
        for three in line.chunks(3) {
            let bits =
                three.iter().fold(0, |v, &b| v << 8 | u32::from(b)) << (8 * (3 - three.len()));
            for i in 0..4 {
                match i <= three.len() {
                    true => out.push(DIGITS[(bits >> (18 - 6 * i) & 63) as usize].into()),
                    false => out.push('='),
                }
            }
        }
        out.push('\n');
    }
    out + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_comes_back() {
        for n in [0, 1, 2, 3, 47, 48, 49, 200] {
            let bytes: Vec<u8> = (0..n).map(|i| (i * 37) as u8).collect();
            let text = to_pem(&bytes);
            let again = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
            assert_eq!(*again, *bytes);
        }
    }
}
