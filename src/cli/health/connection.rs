//! A connection whose reads and writes together have one deadline. With a timeout for each read, a
//! server that sends one byte at a time could hold the check forever.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::web;

/// The time between two attempts to connect to a unix socket.
const RETRY: Duration = Duration::from_millis(10);

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

/// Connects to a unix socket. While many other clients wait there, it tries again.
pub(super) fn connect_unix(path: &Path, deadline: Instant) -> io::Result<Bounded<UnixStream>> {
    loop {
        match web::connect_unix_at_once(path) {
            Ok(socket) => return Ok(Bounded { socket, deadline }),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(remaining(deadline)?.min(RETRY));
            }
            Err(error) => return Err(error),
        }
    }
}

fn remaining(deadline: Instant) -> io::Result<Duration> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    if remaining.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(remaining) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, SockAddr, Socket, Type};

    #[test]
    fn a_socket_with_many_waiting_clients_does_not_hold_the_check_forever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let server = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        server.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        server.listen(0).unwrap();
        let mut waiting = Vec::new();
        while let Ok(client) = web::connect_unix_at_once(&path) {
            waiting.push(client);
        }
        let deadline = Instant::now() + RETRY * 3;
        let Err(error) = connect_unix(&path, deadline) else { panic!("the queue is full") };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        // An accepted client makes room for the next one.
        let accepted = std::thread::spawn(move || server.accept().map(|_| server));
        let deadline = Instant::now() + Duration::from_mins(1);
        assert!(connect_unix(&path, deadline).is_ok());
        let _server = accepted.join().unwrap().unwrap();
    }
}
