//! One packet of a capture: whether it is right, and its fields.

use procbridge_proto::{HEADER_LENGTH, Header, ProtocolError, Status, Version, flag};

use crate::dissect::check::{check_classic, truncated};
use crate::dissect::format::{BODY_LINE, hex, options, reserved};
use crate::dissect::names;
use crate::dissect::position::Position;
use crate::json::layout::{Layout, lay_out};
use crate::json::object::Object;

/// The rest of a capture, which should begin with a packet.
#[derive(Debug)]
pub(crate) struct Dissection<'a> {
    offset: usize,
    bytes: &'a [u8],
    header: Result<Option<Header>, ProtocolError>,
    position: Position,
}

/// The length of the packet if it is right.
pub(crate) type Checked = Result<usize, ProtocolError>;

impl<'a> Dissection<'a> {
    pub(crate) fn new(offset: usize, bytes: &'a [u8], position: Position) -> Self {
        Self { offset, bytes, header: Header::parse(bytes), position }
    }

    /// The position of the packet behind this one.
    pub(crate) fn next_position(&self) -> Position {
        match &self.header {
            Ok(Some(header)) if header.status == Status::HELLO => Position::Session,
            Ok(Some(header)) if self.position == Position::Start && names::opens_session(header) => {
                Position::Offered
            }
            Ok(Some(_)) if self.position == Position::Offered && self.has_id() => Position::Session,
            // The offer was not accepted, and the next packet is of another connection.
            Ok(Some(_)) if self.position == Position::Offered => Position::Start,
            _ => self.position,
        }
    }

    /// Whether there is a call id in front of the body.
    fn has_id(&self) -> bool {
        let Ok(Some(header)) = &self.header else { return false };
        let start = self.bytes.get(HEADER_LENGTH..HEADER_LENGTH + 4);
        match header.status {
            // The offer and the answer to it have none; a late HELLO of the other side has the id 0.
            Status::REQUEST if names::opens_session(header) => false,
            Status::HELLO => start == Some(&[0; 4]),
            // Behind an offer there may also be a classic answer. JSON has no zero in it, and nearly every id has.
            _ if self.position == Position::Offered => {
                header.status.0 > Status::HELLO.0 || start.is_some_and(|start| start.contains(&0))
            }
            _ => self.position == Position::Session,
        }
    }

    /// Gives the packet to the same machine that clients and servers use, as far as it can be told alone.
    pub(crate) fn check(&self) -> Checked {
        let header = match &self.header {
            Ok(Some(header)) => header,
            Ok(None) => return Err(truncated(self.bytes.len(), HEADER_LENGTH, "header")),
            Err(error) => return Err(error.clone()),
        };
        let length = HEADER_LENGTH + header.length as usize;
        if self.has_id() {
            self.check_session(header)?;
        } else {
            check_classic(header, self.bytes.get(..length).unwrap_or(self.bytes))?;
        }
        Ok(length)
    }

    /// A packet of a session, apart from those around it.
    fn check_session(&self, header: &Header) -> Result<(), ProtocolError> {
        let kind = header.status;
        if header.version != Version::V1_1 {
            let (found, expected) = (header.version.bytes(), Some(Version::V1_1));
            return Err(ProtocolError::UnsupportedVersion { found, expected });
        }
        if header.length < ID_LENGTH {
            return Err(ProtocolError::TruncatedId { length: header.length });
        }
        let (received, expected) = (self.whole_body().len(), header.length as usize);
        if received < expected {
            return Err(truncated(received, expected, "body"));
        }
        let id = self.id().unwrap_or_default();
        let is_about_session = matches!(kind, Status::HELLO | Status::PING | Status::PONG | Status::GOODBYE);
        if kind.0 <= Status::GOODBYE.0 && is_about_session != (id == 0) {
            return Err(ProtocolError::InvalidId { kind, id });
        }
        let carries = matches!(kind, Status::REQUEST | Status::GOOD | Status::BAD | Status::ITEM);
        if !carries && kind.0 <= Status::GOODBYE.0 {
            if names::is_compressed(header) {
                return Err(ProtocolError::UnexpectedCodec { kind, flags: header.flags });
            }
            if header.flags & flag::MORE != 0 {
                return Err(ProtocolError::UnexpectedPiece { kind, id });
            }
        }
        match kind {
            _ if !self.is_json() => Ok(()),
            // These may have no body.
            Status::PING | Status::CANCEL if self.body().is_empty() => Ok(()),
            // As a classic packet it is what the same rules are for; the others are objects like a good response.
            Status::REQUEST | Status::BAD | Status::HELLO => self.check_as(kind),
            _ => self.check_as(Status::GOOD),
        }
    }

    fn check_as(&self, status: Status) -> Result<(), ProtocolError> {
        let body = self.body();
        let header = Header::classic(Version::V1_1, status, u32::try_from(body.len()).unwrap_or(u32::MAX));
        check_classic(&header, &[&header.encode()[..], body].concat())
    }

    /// The call, where the packet has an id.
    fn id(&self) -> Option<u32> {
        let id = self.whole_body().first_chunk().filter(|_| self.has_id());
        id.map(|id| u32::from_le_bytes(*id))
    }

    /// The body as far as it is there, without the id.
    fn body(&self) -> &[u8] {
        let body = self.whole_body();
        body.get(self.id_length()..).unwrap_or_default()
    }

    fn id_length(&self) -> usize {
        if self.id().is_some() { ID_LENGTH as usize } else { 0 }
    }

    fn whole_body(&self) -> &[u8] {
        let Ok(Some(header)) = &self.header else { return &[] };
        let body = self.bytes.get(HEADER_LENGTH..).unwrap_or_default();
        body.get(..header.length as usize).unwrap_or(body)
    }

    /// Whether the body is JSON as it stands: neither compressed, nor one of several pieces, nor of a kind that nobody
    /// knows. The last of the pieces cannot be told from a whole body; it is taken for one if it begins like one.
    fn is_json(&self) -> bool {
        let Ok(Some(header)) = &self.header else { return false };
        if !self.has_id() {
            return true;
        }
        let is_known = header.status.0 <= Status::GOODBYE.0;
        is_known
            && !names::is_compressed(header)
            && header.flags & flag::MORE == 0
            && self.body().first() == Some(&b'{')
    }

    /// A line for each field.
    pub(crate) fn listing(&self, checked: &Checked) -> String {
        let mut lines = String::new();
        let mut field = |at: usize, length: usize, name: &str, meaning: &str| {
            if let Some(bytes) = self.bytes.get(at..at + length) {
                lines.push_str(&format!(
                    "{:>8}  {:<14}  {name:<8}  {meaning}\n",
                    self.offset + at,
                    hex(bytes)
                ));
            }
        };
        if !matches!(self.header, Err(ProtocolError::NotProcBridge { .. })) {
            field(0, 2, "flag", "\"pb\"");
        }
        match &self.header {
            Ok(Some(header)) => {
                field(2, 2, "version", &header.version.to_string());
                field(4, 1, "status", &format!("{}, {}", header.status.0, names::packet_kind(header.status)));
                field(5, 1, "flags", &self.flags(header));
                field(6, 1, "options", &options(header));
                field(7, 4, "length", &header.length.to_string());
                if let Some(id) = self.id() {
                    field(HEADER_LENGTH, ID_LENGTH as usize, "id", &id.to_string());
                }
            }
            // The version is right if it is there: it would be the error otherwise.
            Ok(None) => {
                if let Some(&[major, minor]) = self.bytes.get(2..4) {
                    field(2, 2, "version", &format!("{major}.{minor}"));
                }
                field(4, 1, "status", "");
                field(5, 1, "flags", "");
                field(6, 1, "options", "");
            }
            Err(_) => {}
        }
        let body = self.body();
        if !body.is_empty() {
            let meaning = match (checked, str::from_utf8(body)) {
                (Ok(_), Ok(text)) if self.is_json() => lay_out(text, Layout::Pretty).replace('\n', BODY_LINE),
                (Ok(_), _) => self.unread(),
                _ => format!("{} bytes are there", body.len()),
            };
            lines.push_str(&format!(
                "{:>8}  {:<14}  {:<8}  {meaning}\n",
                self.offset + HEADER_LENGTH + self.id_length(),
                hex(body),
                "body"
            ));
        }
        lines
    }

    /// One line of JSON, if the packet is right.
    pub(crate) fn json(&self, checked: &Checked) -> String {
        let (Ok(_), Ok(Some(header))) = (checked, &self.header) else { return String::new() };
        let text = str::from_utf8(self.body()).ok().filter(|text| self.is_json() && !text.is_empty());
        let mut object = Object::new()
            .member("ok", "true")
            .member("offset", &self.offset.to_string())
            .string("version", header.version.to_string().as_str())
            .member("status", &header.status.0.to_string())
            .string("name", names::packet_kind(header.status))
            .member("flags", &header.flags.to_string())
            .member("options", &header.options.to_string())
            .member("length", &header.length.to_string());
        if let Some(id) = self.id() {
            let names: Vec<_> = names::flag_names(header).iter().map(|name| format!("\"{name}\"")).collect();
            object =
                object.member("id", &id.to_string()).member("flag_names", &format!("[{}]", names.join(",")));
        }
        let body = text.map_or_else(|| "null".to_string(), |text| lay_out(text, Layout::Compact));
        object.member("body", &body).finish() + "\n"
    }

    /// What the flags mean here.
    fn flags(&self, header: &Header) -> String {
        if header.flags == 0 {
            return "0".to_string();
        }
        let names = names::flag_names(header);
        match self.has_id() || names::opens_session(header) {
            true if names.is_empty() => format!("{:#04x}, unknown and ignored", header.flags),
            true => format!("{:#04x}, {}", header.flags, names.join(", ")),
            false => reserved(header.flags),
        }
    }

    /// What is said of a body that is no JSON as it stands.
    fn unread(&self) -> String {
        let length = self.body().len();
        match &self.header {
            Ok(Some(header)) if names::is_compressed(header) => format!("{length} bytes, compressed"),
            Ok(Some(header)) if header.status.0 > Status::GOODBYE.0 => format!("{length} bytes"),
            _ => format!("{length} bytes of a body in pieces"),
        }
    }
}

/// A call id, in front of every body of a session.
const ID_LENGTH: u32 = 4;
