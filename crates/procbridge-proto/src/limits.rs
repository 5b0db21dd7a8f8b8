//! The limits that a receiver puts on one packet (PB-LIM-*). Everything that reads a packet is given them.

/// What one packet may hold.
///
/// A packet beyond a limit is refused with an error that names the limit; for a body that happens as soon as its
/// header has arrived. The limits on body and method hold for what is sent too; depth is judged by the receiver alone.
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
    /// The deepest nesting that can be asked for, 128 levels: the JSON parsers behind a handler stop there too.
    pub const DEEPEST: u32 = 128;

    /// The largest body, in bytes. Default 16 MiB (16,777,216).
    #[must_use]
    pub fn with_max_body(mut self, bytes: u32) -> Self {
        self.max_body = bytes;
        self
    }

    /// The deepest nesting of arrays and objects, the body's own object counted. Default and most: 128.
    #[must_use]
    pub fn with_max_depth(mut self, levels: u32) -> Self {
        self.max_depth = levels.min(Self::DEEPEST);
        self
    }

    /// The longest method name, in bytes of UTF-8 once its escapes are read. Default 256.
    #[must_use]
    pub fn with_max_method(mut self, bytes: u32) -> Self {
        self.max_method = bytes;
        self
    }

    /// Leaves the results of good responses to a parser: an object or array in one is only known to end where it does and
    /// to be nested no deeper than is allowed. Who does anything else with it than to parse it has to
    /// [check](crate::Good::check) it first. By default everything is checked.
    #[must_use]
    pub fn with_results_unchecked(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// Checks the results again.
    pub(crate) fn with_results_checked(mut self) -> Self {
        self.lazy = false;
        self
    }

    pub(crate) fn leaves_results(&self) -> bool {
        self.lazy
    }

    /// Hands out the compressed and the large requests of a session as they arrived
    /// ([`Event::Unread`](crate::Event::Unread)), neither inflated nor checked. A server decides first whether it has a
    /// place for the call, and reads the request where that holds up no other call. By default every request is read.
    #[must_use]
    pub fn with_requests_unread(mut self) -> Self {
        self.unread = true;
        self
    }

    pub(crate) fn leaves_requests(&self) -> bool {
        self.unread
    }

    /// Hands out the compressed and the large answers and items of a session as they arrived
    /// ([`Event::UnreadResponse`](crate::Event::UnreadResponse), [`Event::UnreadItem`](crate::Event::UnreadItem)), neither
    /// inflated nor checked. The thread that waits for one reads it, and holds up no other call. By default they are read.
    #[must_use]
    pub fn with_answers_unread(mut self) -> Self {
        self.answers_unread = true;
        self
    }

    pub(crate) fn leaves_answers(&self) -> bool {
        self.answers_unread
    }

    /// The largest body, in bytes.
    pub fn max_body(&self) -> u32 {
        self.max_body
    }

    /// The deepest nesting.
    pub fn max_depth(&self) -> u32 {
        self.max_depth
    }

    /// The longest method name, in bytes.
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
