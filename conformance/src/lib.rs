//! The behaviour that bytes must cause in a ProcBridge server, checked from outside.
//!
//! There is nothing here but the tests in `tests/`: they start `procbridge serve --demo`, write bytes by hand and read
//! what comes back. They use none of this repository's crates.
