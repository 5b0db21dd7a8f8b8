//! The shared secret that a server asks for and a client sends (PB-CNV-6).

use std::fmt;
use std::hint;

/// A shared secret. Unlike other settings it is never printed.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Whether `given` is this secret. The comparison takes as long for a wrong one as for the right one.
    pub(crate) fn is(&self, given: &str) -> bool {
        let differing = given.bytes().zip(self.0.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
        hint::black_box(differing) == 0 && given.len() == self.0.len()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use crate::{ClientConfig, ServerConfig};

    #[test]
    fn settings_are_printed_without_the_token() {
        let (client, server) =
            (ClientConfig::new().with_token("sesame"), ServerConfig::new().with_token("sesame"));
        for shown in [format!("{client:?}"), format!("{server:#?}")] {
            assert!(shown.contains("***") && !shown.contains("sesame"), "{shown}");
        }
    }
}
