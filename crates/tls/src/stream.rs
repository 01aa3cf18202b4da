//! A blocking connection, for tools.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use rustls::{ClientConnection, StreamOwned};

use crate::Context;

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Stream(StreamOwned<ClientConnection, TcpStream>);

impl Stream {
    /// Makes a TLS connection of a connected socket to `host`.
    ///
    /// # Errors
    /// The peer is not trusted, does not trust us, or speaks no TLS that we do.
    pub fn connect(context: &Context, host: &str, mut socket: TcpStream) -> io::Result<Stream> {
        let mut tls = ClientConnection::new(context.client(), Context::server_name(host))
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        context.handshaken(tls.peer_certificates())?;
        Ok(Stream(StreamOwned::new(tls, socket)))
    }

    /// The socket below, for timeouts and the end.
    pub fn socket(&self) -> &TcpStream {
        &self.0.sock
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buf) {
            // Open vSwitch's programs close the socket without saying so in TLS.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            other => other,
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
