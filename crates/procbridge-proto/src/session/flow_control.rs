//! Flow control of streams: the credit for items and for their bytes (PB-STR-*).

use core::mem;

use crate::compression::codec::Codecs;
use crate::message::LARGEST_EXACT;
use crate::settings::Settings;

/// The credit for the items of a stream. An item needs both numbers above zero, and may overdraw the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SendCredit {
    items: u64,
    bytes: i64,
}

/// The receive window of a stream: the credit that the peer still has, and what was taken since the last CREDIT.
#[derive(Debug)]
pub(crate) struct ReceiveWindow {
    pub(crate) credit: SendCredit,
    whole: SendCredit,
    taken_items: u64,
    taken_bytes: u64,
}

impl SendCredit {
    /// Returns the initial credit for the calls of a side with these settings.
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            items: settings.stream_window(),
            bytes: i64::try_from(settings.stream_bytes()).unwrap_or(i64::MAX),
        }
    }

    /// Returns the initial credit for the calls of a side that has sent no settings.
    pub(crate) fn silent() -> Self {
        Self::of(&Settings::unknown(Codecs::NONE))
    }

    pub(crate) fn is_there(&self) -> bool {
        self.items > 0 && self.bytes > 0
    }

    pub(crate) fn spend(&mut self, bytes: usize) {
        self.items = self.items.saturating_sub(1);
        self.charge(bytes as u64);
    }

    /// Takes further bytes of an item that was already counted.
    pub(crate) fn charge(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn add(&mut self, items: u64, bytes: u64) {
        const MOST: i64 = LARGEST_EXACT as i64;
        self.items = self.items.saturating_add(items).min(LARGEST_EXACT);
        self.bytes = self.bytes.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX)).min(MOST);
    }
}

impl ReceiveWindow {
    pub(crate) fn new(whole: SendCredit) -> Self {
        Self { credit: whole, whole, taken_items: 0, taken_bytes: 0 }
    }

    /// Notes what the program took. Returns the credit to grant once half of either window was taken.
    pub(crate) fn taken(&mut self, items: u64, bytes: u64) -> Option<(u64, u64)> {
        self.taken_items = self.taken_items.saturating_add(items).min(LARGEST_EXACT);
        self.taken_bytes = self.taken_bytes.saturating_add(bytes).min(LARGEST_EXACT);
        let half_bytes = u64::try_from(self.whole.bytes).unwrap_or(0).div_ceil(2);
        if self.taken_items < self.whole.items.div_ceil(2) && self.taken_bytes < half_bytes {
            return None;
        }
        let given = (mem::take(&mut self.taken_items), mem::take(&mut self.taken_bytes));
        self.credit.add(given.0, given.1);
        Some(given)
    }
}
