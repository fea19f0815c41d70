//! The cause of a failure, if the class is not exact enough to select a remedy.
//!
//! For example, the class of an expired certificate and of a wrong host name is `tls`, but their
//! remedies differ. The code that meets an error records its cause here, so no code searches the
//! text of a message.

use super::{Failure, FailureDetail};

/// A reason that is more exact than the class. It is never a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureCause {
    Lookup(LookupFault),
    Tls(TlsFault),
    Client(ClientFault),
    NoMetadata,
    /// The endpoint responded with this HTTP status.
    Status(u16),
    /// The body has an encoding, such as gzip, that llmload did not request.
    Encoded,
    /// The endpoint sent the completion in one piece instead of a stream.
    UnstreamedCompletion,
    /// The stream contained its end marker, such as `[DONE]`, but no finish reason.
    NoFinishReason,
    /// The stream contained a finish reason, but not its end marker, such as `[DONE]`.
    NoEndMarker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LookupFault {
    /// The resolver reported that the name has no address.
    UnknownName,
    /// No resolver returned a usable result in time.
    NoAnswer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsFault {
    /// The server sent bytes that are not TLS, or closed the connection during the handshake.
    NotTls,
    /// No trusted authority signed the server's certificate.
    UntrustedIssuer,
    /// The server's certificate is an authority itself, and the configuration does not list it.
    UnlistedAuthority,
    /// The server requires a client certificate, and llmload has none.
    NoClientCertificate,
    /// The server's certificate is for other host names.
    WrongName,
    /// The server's certificate has expired.
    Expired,
    /// The server's certificate is not valid yet.
    NotYetValid,
    /// The server or a device on the way reset the connection during the handshake.
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientFault {
    /// EADDRNOTAVAIL: no local port was free.
    LocalPorts,
    /// EMFILE or ENFILE: too many open files.
    OpenFiles,
    /// ENOMEM or ENOBUFS: no memory for the socket.
    Memory,
    /// EAGAIN: the system did not permit another thread.
    Threads,
    /// No HTTP/2 stream became free before the timeout of the request.
    Streams,
    /// A prompt file has changed, or llmload could not read it.
    PromptFile,
    Defect,
}

impl ClientFault {
    /// Every value, in the order of the enum.
    pub const ALL: [ClientFault; 7] = [
        ClientFault::LocalPorts,
        ClientFault::OpenFiles,
        ClientFault::Memory,
        ClientFault::Threads,
        ClientFault::Streams,
        ClientFault::PromptFile,
        ClientFault::Defect,
    ];

    /// The reason, if the request failed in llmload or its machine and not in the target.
    pub fn of(detail: &FailureDetail) -> Option<ClientFault> {
        match (detail.failure, detail.cause) {
            (_, Some(FailureCause::Client(fault))) => Some(fault),
            (Failure::Internal, _) => Some(ClientFault::Defect),
            _ => None,
        }
    }

    pub fn meaning(self) -> &'static str {
        match self {
            ClientFault::LocalPorts => "no local port was free",
            ClientFault::OpenFiles => "too many files were open",
            ClientFault::Memory => "the kernel had no memory for a socket",
            ClientFault::Threads => "no further thread was permitted",
            ClientFault::Streams => "no HTTP/2 stream was free",
            ClientFault::PromptFile => "a prompt file has changed or cannot be read",
            ClientFault::Defect => "llmload has a defect",
        }
    }
}
