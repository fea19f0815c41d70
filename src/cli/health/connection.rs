//! A connection whose reads and writes together have one deadline. With a timeout for each read, a
//! server that sends one byte at a time could hold the check forever.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

pub(super) trait Connection: Read + Write {}

impl<C: Read + Write> Connection for C {}

/// Sockets whose operations have a timeout.
pub(super) trait Timeouts {
    fn set_timeout(&self, timeout: Duration) -> io::Result<()>;
}

impl Timeouts for TcpStream {
    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))?;
        self.set_write_timeout(Some(timeout))
    }
}

impl Timeouts for UnixStream {
    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))?;
        self.set_write_timeout(Some(timeout))
    }
}

/// A socket with a deadline.
pub(super) struct Bounded<S> {
    socket: S,
    deadline: Instant,
}

impl<S: Timeouts> Bounded<S> {
    /// Executes an operation with the time until the deadline.
    fn operate<T>(&mut self, operation: impl FnOnce(&mut S) -> io::Result<T>) -> io::Result<T> {
        self.socket.set_timeout(remaining(self.deadline)?)?;
        operation(&mut self.socket).map_err(|error| match error.kind() {
            // The operation has timed out.
            ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
            _ => error,
        })
    }
}

impl<S: Timeouts + Read> Read for Bounded<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.operate(|socket| socket.read(buffer))
    }
}

impl<S: Timeouts + Write> Write for Bounded<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.operate(|socket| socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.operate(Write::flush)
    }
}

/// Connects to the first address that accepts a connection, because `localhost` can have two.
pub(super) fn connect(host: &str, port: u16, deadline: Instant) -> io::Result<Bounded<TcpStream>> {
    let mut last = Error::new(ErrorKind::NotFound, "the host name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, remaining(deadline)?) {
            Ok(socket) => return Ok(Bounded { socket, deadline }),
            Err(error) => last = error,
        }
    }
    Err(last)
}

pub(super) fn connect_unix(path: &Path, deadline: Instant) -> io::Result<Bounded<UnixStream>> {
    Ok(Bounded { socket: UnixStream::connect(path)?, deadline })
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    if remaining.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(remaining) }
}
