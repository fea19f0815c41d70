//! The cause of a failure, for failure classes that are too coarse to select a remedy.
//!
//! For example, an expired certificate and a wrong host name have the same class (`tls`) but
//! different remedies. The code that receives an error knows its cause and stores it in this closed
//! enum. So the code that selects a remedy does not have to search for the cause in the text of a
//! message.

/// A more exact reason for a failure than its class. It selects a remedy and is never a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureCause {
    /// The TLS handshake failed for this reason.
    Tls(TlsFault),
    /// The endpoint responded with this HTTP status.
    Status(u16),
    /// The endpoint sent the completion in one piece instead of a stream.
    UnstreamedCompletion,
    /// The stream contained its end marker, such as `[DONE]`, but no finish reason.
    NoFinishReason,
    /// The stream contained a finish reason, but not its end marker, such as `[DONE]`.
    NoEndMarker,
}

/// The reason why a TLS handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsFault {
    /// The server sent bytes that are not TLS, or closed the connection during the handshake.
    NotTls,
    /// No trusted authority signed the server's certificate.
    UntrustedIssuer,
    /// The server's certificate is for other host names.
    WrongName,
    /// The server's certificate has expired or is not valid yet.
    OutOfDate,
}
