//! The limits that a receiver puts on one packet (PB-LIM-*). Each function that reads a packet takes them.

/// The limits of one packet.
///
/// A packet over a limit is refused with an error that names the limit. A body is refused as soon as its header has
/// arrived. The limits on body and method also apply to sent packets. Only the receiver checks the depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    max_body: u32,
    max_depth: u32,
    max_method: u32,
    lazy: bool,
    unread: bool,
    answers_unread: bool,
}

impl Limits {
    /// The deepest nesting that can be set, 128 levels: the JSON parsers behind a handler stop there too.
    pub const DEEPEST: u32 = 128;

    /// Sets the largest body, in bytes. Default 16 MiB (16,777,216).
    #[must_use]
    pub fn with_max_body(mut self, bytes: u32) -> Self {
        self.max_body = bytes;
        self
    }

    /// Sets the deepest nesting of arrays and objects, including the body's own object. Default and maximum: 128.
    #[must_use]
    pub fn with_max_depth(mut self, levels: u32) -> Self {
        self.max_depth = levels.min(Self::DEEPEST);
        self
    }

    /// Sets the longest method name, in bytes of UTF-8 without escapes. Default 256.
    #[must_use]
    pub fn with_max_method(mut self, bytes: u32) -> Self {
        self.max_method = bytes;
        self
    }

    /// Leaves the results of good responses to a parser. Of an object or array only the end and the depth are checked.
    /// Call [check](crate::Good::check) before any use of it but parsing. By default everything is checked.
    #[must_use]
    pub fn with_results_unchecked(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// Enables the checks of results again.
    pub(crate) fn with_results_checked(mut self) -> Self {
        self.lazy = false;
        self
    }

    pub(crate) fn leaves_results(&self) -> bool {
        self.lazy
    }

    /// Passes on the compressed and the large requests of a session as they arrived
    /// ([`Event::Unread`](crate::Event::Unread)), neither inflated nor checked. A server first takes a permit for the
    /// call. Then it reads the request outside the session's lock. By default every request is read.
    #[must_use]
    pub fn with_requests_unread(mut self) -> Self {
        self.unread = true;
        self
    }

    pub(crate) fn leaves_requests(&self) -> bool {
        self.unread
    }

    /// Passes on the compressed and the large answers and items of a session as they arrived
    /// ([`Event::UnreadResponse`](crate::Event::UnreadResponse), [`Event::UnreadItem`](crate::Event::UnreadItem)),
    /// neither inflated nor checked. The caller that waits for one reads it, and delays no other call. By default they
    /// are read.
    #[must_use]
    pub fn with_answers_unread(mut self) -> Self {
        self.answers_unread = true;
        self
    }

    pub(crate) fn leaves_answers(&self) -> bool {
        self.answers_unread
    }

    /// Returns the largest body, in bytes.
    pub fn max_body(&self) -> u32 {
        self.max_body
    }

    /// Returns the deepest nesting.
    pub fn max_depth(&self) -> u32 {
        self.max_depth
    }

    /// Returns the longest method name, in bytes.
    pub fn max_method(&self) -> u32 {
        self.max_method
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 16 * 1024 * 1024,
            max_depth: Self::DEEPEST,
            max_method: 256,
            lazy: false,
            unread: false,
            answers_unread: false,
        }
    }
}
