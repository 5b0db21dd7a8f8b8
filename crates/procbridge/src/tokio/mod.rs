//! The async face.
