//! The methods of a router: their handlers, and their descriptions for `$/describe`.

use std::sync::Arc;

use procbridge_proto::Packet;

use crate::config::server::ServerConfig;
use crate::json::object_writer::ObjectWriter;
use crate::service::call::Call;

/// Handlers by name, and the one for all other names; the same for blocking and for async handlers.
pub(crate) struct Routes<H: ?Sized> {
    /// In the order of their names.
    entries: Vec<(String, Entry<H>)>,
    fallback: Option<Arc<H>>,
    /// Turns a call of `$/subscribe` into a subscription. A hub sets it, so a program without one does not contain that code.
    subscribe: Option<Arc<Subscribe>>,
}

/// Answers a call of `$/subscribe`, or turns it into a subscription and returns nothing.
pub(crate) type Subscribe = dyn Fn(&Call, &ServerConfig) -> Option<Packet> + Send + Sync;

/// The entry of a method's name.
struct Entry<H: ?Sized> {
    /// `None` if the method was described and not added.
    handler: Option<Arc<H>>,
    kind: Kind,
    doc: Option<String>,
    /// JSON Schemas.
    payload: Option<Box<str>>,
    result: Option<Box<str>>,
}

/// How a method answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// With one result.
    #[default]
    Method,
    /// With any number of items.
    Stream,
}

impl<H: ?Sized> Routes<H> {
    pub(crate) fn insert(&mut self, name: String, kind: Kind, handler: Arc<H>) {
        self.change(name, |entry| (entry.kind, entry.handler) = (kind, Some(handler)));
    }

    pub(crate) fn describe(&mut self, name: String, doc: String) {
        self.change(name, |entry| entry.doc = Some(doc));
    }

    /// Sets the schemas. Payloads are deserialised and results serialised, which may make their schemas differ.
    #[cfg(feature = "schema")]
    pub(crate) fn schema<T: schemars::JsonSchema, R: schemars::JsonSchema>(&mut self, name: String) {
        let settings = schemars::generate::SchemaSettings::default;
        let payload = settings().for_deserialize().into_generator().into_root_schema_for::<T>();
        let result = settings().for_serialize().into_generator().into_root_schema_for::<R>();
        let text = |schema: schemars::Schema| Some(schema.to_value().to_string().into_boxed_str());
        self.change(name, |entry| (entry.payload, entry.result) = (text(payload), text(result)));
    }

    pub(crate) fn set_fallback(&mut self, handler: Arc<H>) {
        self.fallback = Some(handler);
    }

    pub(crate) fn set_subscribe(&mut self, subscribe: Arc<Subscribe>) {
        self.subscribe = Some(subscribe);
    }

    /// Whether `call` asks for events, and this router has them.
    pub(crate) fn is_subscription(&self, method: Option<&str>, config: &ServerConfig) -> bool {
        self.subscribe.is_some() && config.subscribe && method == Some(SUBSCRIBE)
    }

    /// Turns such a call into a subscription, or returns the answer that says why not.
    pub(crate) fn subscribe(&self, call: &Call, config: &ServerConfig) -> Option<Packet> {
        self.subscribe.as_ref().and_then(|subscribe| subscribe(call, config))
    }

    pub(crate) fn has_events(&self) -> bool {
        self.subscribe.is_some()
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn has_fallback(&self) -> bool {
        self.fallback.is_some()
    }

    pub(crate) fn find(&self, call: &Call) -> Option<&Arc<H>> {
        let entry = call.method().and_then(|method| self.entries.get(self.position(method).ok()?));
        entry.and_then(|(_, entry)| entry.handler.as_ref()).or(self.fallback.as_ref())
    }

    /// Returns the names of the methods, sorted.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.methods().map(|(name, _)| name.as_str()).collect()
    }

    /// Returns the names of the streaming methods, sorted, with that of subscriptions.
    pub(crate) fn streams(&self) -> Vec<&str> {
        let streams = self.methods().filter(|(_, entry)| entry.kind == Kind::Stream);
        let events = self.subscribe.as_ref().map(|_| SUBSCRIBE);
        let mut names: Vec<_> = events.into_iter().chain(streams.map(|(name, _)| name.as_str())).collect();
        names.sort_unstable();
        names
    }

    /// Appends the description of each method for `$/describe`, sorted by name: an array.
    pub(crate) fn describe_all(&self, out: &mut Vec<u8>) {
        let mut before = b'[';
        for (name, entry) in self.methods() {
            out.push(before);
            entry.describe(name, out);
            before = b',';
        }
        out.extend_from_slice(if before == b'[' { b"[]" } else { b"]" });
    }

    /// Adds the routes of another router. Its fallback and its events are added where there are none.
    pub(crate) fn merge(&mut self, other: Self) {
        let Self { entries, fallback, subscribe } = other;
        for (name, entry) in entries {
            self.change(name, |own| *own = entry);
        }
        self.fallback = self.fallback.take().or(fallback);
        self.subscribe = self.subscribe.take().or(subscribe);
    }

    /// Adds the methods of another router, with `prefix` and a dot before their names.
    pub(crate) fn nest(&mut self, prefix: &str, other: Self) {
        for (name, entry) in other.entries {
            self.change(format!("{prefix}.{name}"), |own| *own = entry);
        }
    }

    /// Returns the routes with each handler converted by `into`.
    pub(crate) fn map<T: ?Sized>(self, into: impl Fn(Arc<H>) -> Arc<T>) -> Routes<T> {
        let with = |Entry { handler, kind, doc, payload, result }| {
            let handler = Option::map(handler, &into);
            Entry { handler, kind, doc, payload, result }
        };
        let entries = self.entries.into_iter().map(|(name, entry)| (name, with(entry))).collect();
        Routes { entries, fallback: self.fallback.map(&into), subscribe: self.subscribe }
    }

    fn methods(&self) -> impl Iterator<Item = &(String, Entry<H>)> {
        self.entries.iter().filter(|(_, entry)| entry.handler.is_some())
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }

    /// Changes the entry of this name; adds one if there is none.
    fn change(&mut self, name: String, change: impl FnOnce(&mut Entry<H>)) {
        match self.position(&name) {
            Ok(at) => self.entries.get_mut(at).map(|(_, entry)| change(entry)).unwrap_or_default(),
            Err(at) => {
                let mut entry = Entry::default();
                change(&mut entry);
                self.entries.insert(at, (name, entry));
            }
        }
    }
}

impl<H: ?Sized> Entry<H> {
    fn describe(&self, name: &str, out: &mut Vec<u8>) {
        let result = if self.kind == Kind::Stream { "item" } else { "result" };
        let mut object = ObjectWriter::begin(out);
        object.text("name", name);
        object.text("kind", self.kind.as_str());
        if let Some(doc) = &self.doc {
            object.text("doc", doc);
        }
        for (key, schema) in [("payload", &self.payload), (result, &self.result)] {
            if let Some(schema) = schema {
                object.member(key).extend_from_slice(schema.as_bytes());
            }
        }
        object.end();
    }
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Stream => "stream",
        }
    }
}

impl<H: ?Sized> Clone for Routes<H> {
    fn clone(&self) -> Self {
        Self {
            entries: self.entries.clone(),
            fallback: self.fallback.clone(),
            subscribe: self.subscribe.clone(),
        }
    }
}

impl<H: ?Sized> Clone for Entry<H> {
    fn clone(&self) -> Self {
        Self {
            handler: self.handler.clone(),
            kind: self.kind,
            doc: self.doc.clone(),
            payload: self.payload.clone(),
            result: self.result.clone(),
        }
    }
}

impl<H: ?Sized> Default for Routes<H> {
    fn default() -> Self {
        Self { entries: Vec::new(), fallback: None, subscribe: None }
    }
}

impl<H: ?Sized> Default for Entry<H> {
    fn default() -> Self {
        Self { handler: None, kind: Kind::default(), doc: None, payload: None, result: None }
    }
}

/// The method with which a client asks for events.
pub(crate) const SUBSCRIBE: &str = "$/subscribe";
