//! The shared secret that a server asks for and a client brings (PB-CNV-6).

use std::fmt;
use std::hint;

/// A shared secret. Settings are printed; this is not.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Whether `brought` is this secret. It takes as long for a wrong one as for the right one.
    pub(crate) fn is(&self, brought: &str) -> bool {
        let differing = brought.bytes().zip(self.0.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
        hint::black_box(differing) == 0 && brought.len() == self.0.len()
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
    fn settings_can_be_printed_without_it() {
        let (client, server) =
            (ClientConfig::new().with_token("sesame"), ServerConfig::new().with_token("sesame"));
        for shown in [format!("{client:?}"), format!("{server:#?}")] {
            assert!(shown.contains("***") && !shown.contains("sesame"), "{shown}");
        }
    }
}
