//! Bodies that are too large, that lie about themselves, or that become much once they are read.

use std::fmt::Write as _;
use std::io::Write;

use super::run::{Found, Must, Run};
use super::wire::{End, Until, Wire};
use crate::error::FloodError;
use ocelli_testing::zip::deflated_zeros;

const THEME: &str = "bodies";

/// Most bytes that are sent to a service that never refuses.
const MOST: usize = 64 << 20;
/// Bytes of a chunk of those.
const CHUNK: usize = 64 << 10;
/// Images in one request: more than any setting of the service allows.
const IMAGES: usize = 5_000;
/// Levels of arrays or objects.
const DEPTH: usize = 100_000;

pub(super) fn play(run: &mut Run, model: Option<&str>) -> Result<(), FloodError> {
    let wire = run.wire.clone();
    for path in ["/predict", "/upload-data?dataset=ocelli-abuse", "/v1/feedback?label=cat"] {
        let declared = wire.request(&format!("POST {path}"), "content-length: 1099511627776\r\n", b"");
        let name = format!("1 TiB declared to {}", path.split('?').next().unwrap_or_default());
        run.bytes(THEME, name, Must::Refused, &declared)?;
    }
    run.check(THEME, "chunks without end", "4xx", without_end)?;
    let json = |text: &str| wire.post("/predict", "application/json", text.as_bytes());
    let longer =
        wire.request("POST /predict", "content-type: image/png\r\ncontent-length: 1000\r\n", b"short");
    run.check(THEME, "declared longer than sent", Must::End.text(), |wire| {
        Must::End.judge(wire.send_half(&longer))
    })?;
    let rest = [&[b'x'; 500][..], b"\r\n\r\n"].concat();
    let shorter = wire.request("POST /predict", "content-type: image/png\r\ncontent-length: 5\r\n", &rest);
    run.check(THEME, "declared shorter than sent", "4xx, no good answer to the rest, closed", |wire| {
        let reply = wire.send(&shorter, Until::End).map_err(|error| error.to_string())?;
        let refused = reply.answers().all(|status| (400..500).contains(&status));
        let held = refused && reply.answers().count() > 0 && reply.end != End::Open;
        if held { Ok(reply.text()) } else { Err(reply.text()) }
    })?;
    for coding in ["gzip", "deflate", "br", "zstd", "gzip, gzip"] {
        let packed = [b"\x1f\x8b\x08\0\0\0\0\0\0\xff".as_slice(), &deflated_zeros(200_000), &[0; 8]].concat();
        let headers = format!(
            "content-type: image/png\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n",
            packed.len()
        );
        let bytes = wire.request("POST /predict", &headers, &packed);
        run.bytes(THEME, format!("Content-Encoding {coding}, 50 MB in 300 KB"), Must::Refused, &bytes)?;
    }
    let nested = |open: &str, close: &str| open.repeat(DEPTH) + &close.repeat(DEPTH);
    let many = |item: &str| format!("{{\"images\":[{}{item}]}}", format!("{item},").repeat(IMAGES));
    for (name, text) in [
        ("JSON arrays 100,000 deep", nested("[", "]")),
        ("JSON objects 100,000 deep", nested("{\"a\":", "}")),
        ("JSON arrays 100,000 deep in a field", format!("{{\"image\":{}}}", nested("[", "]"))),
        ("JSON that never closes", "[".repeat(DEPTH)),
        ("9 MB of base64 in JSON", format!("{{\"image\":\"{}\"}}", "A".repeat(9 << 20))),
        ("9 MB of base64 that is none", format!("{{\"image\":\"{}*\"}}", "A".repeat(9 << 20))),
        ("9 MB of escapes in JSON", format!("{{\"image\":\"{}\"}}", "\\u0041".repeat(3 << 19))),
        ("5,000 images in JSON", many("\"\"")),
        ("5,000 nulls for images", many("null")),
        ("number of 1 MB", format!("{{\"image\":{}}}", "9".repeat(1 << 20))),
        ("half of a character", "{\"image\":\"\\ud800\"}".to_owned()),
        ("one field twice", "{\"image\":\"AAAA\",\"image\":\"AAAA\"}".to_owned()),
        ("100,000 unknown fields", {
            let mut text = "{".to_owned();
            (0..DEPTH).for_each(|i| _ = write!(text, "\"{i}\":0,"));
            text + "\"image\":\"\"}"
        }),
    ] {
        run.bytes(THEME, name, Must::Refused, &json(&text))?;
    }
    run.bytes(
        THEME,
        "JSON that is not UTF-8",
        Must::Refused,
        &wire.post("/predict", "application/json", b"{\"image\":\"\xff\xfe\"}"),
    )?;
    forms(run)?;
    tensors(run, model.unwrap_or("model"))
}

/// Sends chunks until the service has enough, at most [`MOST`] bytes: what it then makes of them is no image.
fn without_end(wire: &Wire) -> Found {
    let head =
        wire.request("POST /predict", "content-type: image/png\r\ntransfer-encoding: chunked\r\n", b"");
    let chunk = [format!("{CHUNK:x}\r\n").as_bytes(), &[b'x'; CHUNK], b"\r\n"].concat();
    let reply = wire.play(Until::Answers(1), true, |stream| {
        stream.write_all(&head)?;
        (0..MOST / CHUNK).try_for_each(|_| stream.write_all(&chunk))?;
        stream.write_all(b"0\r\n\r\n")
    });
    Must::Refused.judge(reply)
}

/// Forms that are none, or too many of them.
fn forms(run: &mut Run) -> Result<(), FloodError> {
    let wire = run.wire.clone();
    let kind = "multipart/form-data; boundary=XX";
    let part = "--XX\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx\r\n";
    let filled = |fields: &str| format!("--XX\r\n{fields}\r\n\r\nx\r\n--XX--\r\n");
    for (name, kind, body) in [
        ("form of 5,000 files", kind, part.repeat(IMAGES) + "--XX--\r\n"),
        ("form without its end", kind, part.to_owned()),
        ("form without a boundary", "multipart/form-data", part.to_owned() + "--XX--\r\n"),
        ("form with an empty boundary", "multipart/form-data; boundary=", part.to_owned() + "--XX--\r\n"),
        ("form of 50,000 parts without a name", kind, "--XX\r\n\r\n\r\n".repeat(50_000) + "--XX--\r\n"),
        ("part with a header of 200 KB", kind, filled(&format!("x: {}", "y".repeat(200_000)))),
        ("part with 20,000 header fields", kind, filled("x: y\r\n".repeat(20_000).trim_end())),
        (
            "part with a name that leads out",
            kind,
            filled("content-disposition: form-data; name=\"../file\"; filename=\"../../etc/passwd\""),
        ),
    ] {
        run.bytes(THEME, name, Must::Refused, &wire.post("/predict", kind, body.as_bytes()))?;
    }
    let long = format!("multipart/form-data; boundary={}", "x".repeat(10_000));
    run.bytes(
        THEME,
        "boundary of 10,000 characters",
        Must::Refused,
        &wire.post("/predict", &long, part.as_bytes()),
    )
}

/// Tensors of the Open Inference Protocol with shapes that their data does not have.
fn tensors(run: &mut Run, model: &str) -> Result<(), FloodError> {
    let wire = run.wire.clone();
    // A name is whatever the service said: only what needs no escape in an address is used.
    let plain = model.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let path = format!("/v2/models/{}/infer", if plain { model } else { "model" });
    for (name, shape) in [
        ("tensor of 2^62 by 4", "[4611686018427387904,4]"),
        ("tensor of 2^63 - 1 images", "[9223372036854775807,28,28,1]"),
        ("tensor of -1 images", "[-1,28,28,1]"),
        ("tensor without numbers", "[1000000,28,28,1]"),
        ("tensor with a shape of 100,000 numbers", &format!("[{}1]", "1,".repeat(100_000))),
    ] {
        let body = format!(
            "{{\"inputs\":[{{\"name\":\"pixels\",\"datatype\":\"FP32\",\"shape\":{shape},\"data\":[1]}}]}}"
        );
        run.bytes(THEME, name, Must::Refused, &wire.post(&path, "application/json", body.as_bytes()))?;
    }
    Ok(())
}
