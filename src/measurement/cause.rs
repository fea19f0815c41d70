//! The cause of a failure, for failure classes that are too coarse to select a remedy.
//!
//! For example, an expired certificate and a wrong host name have the same class (`tls`) but
//! different remedies. The code that receives an error knows its cause and stores it in this closed
//! enum. So the code that selects a remedy does not have to search for the cause in the text of a
//! message.

use super::{Failure, FailureDetail};

/// A more exact reason for a failure than its class. It selects a remedy and is never a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureCause {
    /// The host name was not resolved for this reason.
    Lookup(LookupFault),
    /// The TLS handshake failed for this reason.
    Tls(TlsFault),
    /// The request failed for this reason in llmload or its machine.
    Client(ClientFault),
    /// The endpoint did not respond to a request for its models or its version.
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

/// The reason why a host name was not resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LookupFault {
    /// The resolver reported that the name has no address.
    UnknownName,
    /// No resolver returned a usable answer in time.
    NoAnswer,
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
    /// The server's certificate has expired.
    Expired,
    /// The server's certificate is not valid yet.
    NotYetValid,
    /// The server or a device on the way reset the connection during the handshake.
    Reset,
}

/// The reason why a request failed in llmload or its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientFault {
    /// No local port was free (EADDRNOTAVAIL).
    LocalPorts,
    /// The process or the machine had too many open files (EMFILE, ENFILE).
    OpenFiles,
    /// The kernel had no memory for the socket (ENOMEM, ENOBUFS).
    Memory,
    /// The system did not permit a further thread (EAGAIN).
    Threads,
    /// No HTTP/2 stream became free before the timeout of the request.
    Streams,
    /// A prompt file has changed, or llmload could not read it.
    PromptFile,
    /// A defect in llmload.
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

    /// Returns the reason if the request failed in llmload or its machine. Such a failure says
    /// nothing about the target.
    pub fn of(detail: &FailureDetail) -> Option<ClientFault> {
        match (detail.failure, detail.cause) {
            (_, Some(FailureCause::Client(fault))) => Some(fault),
            (Failure::Internal, _) => Some(ClientFault::Defect),
            _ => None,
        }
    }

    /// Returns the meaning as a clause for people.
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
