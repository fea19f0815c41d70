//! The W3C trace context of a request. With the trace id of a failed request, a user can find its
//! traces and logs on the server.

use std::fmt;

/// The `Display` is the value of the `traceparent` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    id: u128,
    span: u64,
}

impl Trace {
    pub const HEADER: &str = "traceparent";

    /// A zero becomes 1, because zero means "no trace".
    pub fn new(high: u64, low: u64, span: u64) -> Trace {
        Trace { id: (u128::from(high) << 64 | u128::from(low)).max(1), span: span.max(1) }
    }

    /// Returns 32 hexadecimal digits, as tracing tools show them.
    pub fn id(self) -> String {
        format!("{:032x}", self.id)
    }
}

/// Sets the flag `sampled`, so the server keeps the trace.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", self.id, self.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_written_as_the_w3c_defines_it() {
        let trace = Trace::new(0x4bf9_2f35_77b3_4da6, 0xa3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7);
        assert_eq!(trace.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert_eq!(trace.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(Trace::new(0, 0, 0).to_string(), format!("00-{:032x}-{:016x}-01", 1, 1));
    }
}
