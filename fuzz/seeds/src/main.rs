//! Writes the vectors of `spec/vectors` as inputs of the targets: `seeds VECTORS CORPUS` makes `CORPUS/TARGET/NAME`.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use procbridge_proto::{HEADER_LENGTH, Header};
use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [vectors, corpus] = &arguments[..] else { return Err("usage: seeds VECTORS CORPUS".into()) };
    for target in ["envelope", "decoder", "session", "inflate", "budgets"] {
        fs::create_dir_all(corpus.join(target))?;
    }
    for folder in ["packet", "reject", "session"] {
        for entry in fs::read_dir(vectors.join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let vector = serde_json::from_slice(&fs::read(&path)?)?;
                let name = path.file_stem().unwrap_or_default();
                seed(folder == "session", &vector, |target, input| {
                    // The later parts of a long input say little that its beginning does not.
                    let input = &input[..input.len().min(LONGEST)];
                    fs::write(corpus.join(target).join(Path::new(folder).with_extension(name)), input)
                })?;
            }
        }
    }
    Ok(())
}

/// Returns an input, which begins with the choices that its target makes of its first bytes.
fn seed(
    is_session: bool,
    vector: &Value,
    mut write: impl FnMut(&str, Vec<u8>) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let input = |choices: &[u8], bytes: &[u8]| [choices, bytes].concat();
    if is_session {
        let steps = vector["steps"].as_array().into_iter().flatten();
        let received: Vec<u8> = steps.flat_map(|step| bytes(&step["receive"], 3)).collect();
        let is_acceptor = u8::from(vector["receiver"] == "acceptor");
        write("session", input(&[0, is_acceptor, 7], &received))?;
        write("decoder", input(&[8 | is_acceptor, 7], &received))?;
        let mut rest = &received[..];
        while let Ok(Some(header)) = Header::parse(rest) {
            let end = (HEADER_LENGTH + header.length as usize).min(rest.len());
            if header.flags & 0x30 != 0 && end > HEADER_LENGTH + 4 {
                let codec = u8::from(header.flags & 0x20 != 0);
                write("inflate", input(&[codec | 4, 1], &rest[HEADER_LENGTH + 4..end]))?;
            }
            rest = &rest[end..];
        }
        return Ok(());
    }
    let bytes = bytes(&vector["bytes"], 0);
    let is_server = u8::from(vector["receiver"] == "server");
    let end = if vector["end"] == true { 2 } else { 0 };
    let old = if vector["version"] == "1.0" { 16 } else { 0 };
    write("decoder", input(&[is_server | end | old, 7], &bytes))?;
    let Ok(Some(header)) = Header::parse(&bytes) else { return Ok(()) };
    let old = u8::from(header.version.bytes() == [1, 0]);
    let kind = match header.status.0 {
        0 => 0,
        1 => 8,
        _ => 12,
    };
    write("envelope", input(&[old | kind], &bytes[HEADER_LENGTH..]))?;
    write("inflate", input(&[8, 100], &bytes[HEADER_LENGTH..]))
}

/// Returns the bytes that the parts stand for (`spec/vectors/README.md`).
fn bytes(parts: &Value, id: u32) -> Vec<u8> {
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
    let mut out = Vec::new();
    for part in parts.as_array().into_iter().flatten() {
        match part {
            Value::String(text) => out.extend(hex(text)),
            part if part["text"].is_string() => out.extend(part["text"].as_str().unwrap_or("").as_bytes()),
            part if part["repeat"].is_string() => {
                let unit = hex(part["repeat"].as_str().unwrap_or(""));
                out.extend(unit.repeat(number(&part["times"]) as usize));
            }
            part if part["id"] == true => out.extend(id.to_le_bytes()),
            part if part["series"].is_array() => {
                let [from, step, times] = ["from", "step", "times"].map(|key| number(&part[key]));
                (0..times).for_each(|n| out.extend(bytes(&part["series"], from + n * step)));
            }
            part => {
                let body = bytes(&part["body"], id);
                out.extend((body.len() as u32).to_le_bytes());
                out.extend(body);
            }
        }
    }
    out
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// The longest input, which is longer than what a session takes in at once.
const LONGEST: usize = 12 * 1024;
