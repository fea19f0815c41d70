//! The certificates and keys of a web configuration file, in the file itself or in separate files.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Reader;
use crate::config::field::Field;
use crate::config::file::read_small;
use crate::config::tree::NodeId;

/// The size of the largest PEM file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The text of certificates or of a key.
pub(super) enum Pem {
    Absent,
    /// The file has a mistake at this node, which is already recorded.
    Invalid(NodeId),
    Text {
        node: NodeId,
        text: String,
        /// The kind of source, for a message: `value` or `file`.
        source: &'static str,
    },
}

impl Pem {
    pub(super) fn node(&self) -> Option<NodeId> {
        match self {
            Pem::Absent => None,
            Pem::Invalid(node) | Pem::Text { node, .. } => Some(*node),
        }
    }
}

/// Returns the field, or an absent field if its text is empty.
pub(super) fn given(field: &Field<String>) -> &Field<String> {
    static ABSENT: Field<String> = Field::Absent;
    match field {
        Field::Present(located) if located.value.is_empty() => &ABSENT,
        field => field,
    }
}

impl Reader<'_> {
    /// Returns the PEM text of one of two keys: the text itself, or a file. An empty value counts
    /// as absent, as in the exporters of Prometheus.
    pub(super) fn pem_text(
        &self,
        inline: &Field<String>,
        path: &Field<String>,
        (inline_name, path_name): (&str, &str),
    ) -> Pem {
        match (given(inline), given(path)) {
            (Field::Invalid(node), _) | (_, Field::Invalid(node)) => Pem::Invalid(*node),
            (Field::Present(inline), Field::Present(path)) => {
                let message = format!("`{inline_name}` and `{path_name}` contradict each other");
                self.problem(path.node, message, "remove one of them");
                Pem::Invalid(inline.node)
            }
            (Field::Present(inline), Field::Absent) => {
                Pem::Text { node: inline.node, text: inline.value.clone(), source: "value" }
            }
            (Field::Absent, Field::Present(path)) => {
                let file = self.base.join(&path.value);
                self.files.borrow_mut().push(file.clone());
                match read_small(&file, MAX_BYTES) {
                    Ok(text) => Pem::Text { node: path.node, text, source: "file" },
                    Err(mistake) => {
                        self.report(path.node, mistake);
                        Pem::Invalid(path.node)
                    }
                }
            }
            (Field::Absent, Field::Absent) => Pem::Absent,
        }
    }

    pub(super) fn certificates(&self, pem: Pem) -> Option<Vec<CertificateDer<'static>>> {
        let Pem::Text { node, text, source } = pem else { return None };
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Some(certificates),
            _ => {
                self.problem(
                    node,
                    format!("the {source} contains no valid certificate in PEM format"),
                    "use a certificate that starts with `-----BEGIN CERTIFICATE-----`",
                );
                None
            }
        }
    }

    pub(super) fn private_key(&self, pem: Pem) -> Option<PrivateKeyDer<'static>> {
        let Pem::Text { node, text, source } = pem else { return None };
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).ok();
        if key.is_none() {
            self.problem(
                node,
                format!("the {source} contains no valid private key in PEM format"),
                "use a key without a passphrase that starts with `-----BEGIN`",
            );
        }
        key
    }
}
