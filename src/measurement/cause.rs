//! The cause of a failure, where its class alone is too coarse to choose a remedy.
//!
//! The code that sees an error knows its kind; a remedy needs it later. A closed enum carries the
//! kind from one to the other, so nobody has to search the text of a message for it.

/// The cause of a failure. It chooses a remedy and is never a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureCause {
    /// TLS could not be set up.
    Tls(TlsFault),
    /// The endpoint refused the request with this HTTP status.
    Status(u16),
    /// The endpoint sent a whole completion instead of a stream.
    WholeCompletion,
    /// The stream ended with `[DONE]` and without a finish reason.
    NoFinishReason,
    /// The stream ended with a finish reason and without `[DONE]`.
    NoDone,
}

/// The reason for which TLS could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsFault {
    /// The server answered with something other than TLS, or closed the connection during the
    /// handshake.
    NotTls,
    /// No trusted authority signed the server's certificate.
    UntrustedIssuer,
    /// The server's certificate is for other host names.
    WrongName,
    /// A certificate has expired or is not valid yet.
    OutOfDate,
}
