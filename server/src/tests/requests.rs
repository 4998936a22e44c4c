//! Every way in which clients write an image, at every address that takes one: taken as the plain one is, or refused
//! with what is wanted.

use ocelli_pipeline::Compute;
use ocelli_pipeline::store::{Name, Store};
use serde_json::{Value, json};

use super::support::*;
use crate::{Access, Server};

/// What becomes of a request.
enum Outcome {
    /// The answer to the plain image.
    Same,
    /// Status, code and a part of the reason.
    Refused(u16, &'static str, &'static str),
}

use Outcome::{Refused, Same};

/// A service with a data folder and the model of all tests.
fn service(folder: &tempfile::TempDir) -> Service {
    let store = Store::open(folder.path()).unwrap();
    let name = Name::new("model", "m").unwrap();
    let seed = Some(model_file());
    Service::serve(
        Server::with_data(store, (&name, seed), Compute::on(1), patient(), Access::default(), no_worker())
            .unwrap(),
    )
}

fn lines(text: &str, width: usize, end: &str) -> String {
    let lines: Vec<_> = text.as_bytes().chunks(width).map(|line| str::from_utf8(line).unwrap()).collect();
    lines.join(end) + end
}

/// One image in base64, as clients write it.
fn texts(image: &[u8]) -> Vec<String> {
    let plain = base64(image);
    let of_urls = plain.replace('+', "-").replace('/', "_");
    assert_ne!(plain, of_urls, "the image must have characters of both alphabets");
    vec![
        lines(&plain, 76, "\n"),
        lines(&plain, 76, "\r\n"),
        lines(&plain, 64, "\n"),
        format!("\t {plain} \n"),
        of_urls.trim_end_matches('=').to_owned(),
        lines(&of_urls, 76, "\n"),
        format!("data:image/bmp;base64,{plain}"),
        format!(" data:image/bmp;charset=utf-8;base64, {}", lines(&plain, 76, "\r\n")),
        format!("DATA:image/bmp;BASE64,{of_urls}"),
        format!("data:;base64,{}", plain.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")),
        plain,
    ]
}

/// A form with one part that has the given headers.
fn part(headers: &str, content: &[u8]) -> Vec<u8> {
    [format!("--XX\r\n{headers}\r\n\r\n").as_bytes(), content, b"\r\n--XX--\r\n"].concat()
}

fn table(image: &[u8]) -> Vec<(String, Vec<u8>, Outcome)> {
    let plain = base64(image);
    let object = json!({ "image": plain }).to_string().into_bytes();
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec();
    let mut table: Vec<(String, Vec<u8>, Outcome)> = Vec::new();
    let mut add = |kind: &str, body: &[u8], outcome| table.push((kind.to_owned(), body.to_vec(), outcome));
    let media = |says| Refused(415, "unsupported_media_type", says);
    let body = |says| Refused(400, "bad_body", says);
    let unread = |says| Refused(422, "undecodable_image", says);

    for text in texts(image) {
        add("application/json", json!({ "image": text }).to_string().as_bytes(), Same);
        add("application/json", json!({ "images": [text] }).to_string().as_bytes(), Same);
    }
    for (text, says) in [
        ("this is no base64, it is text!", "image 1 is not base64: ',' at position 18"),
        ("AA*A", "image 1 is not base64: '*' at position 3"),
        ("http://localhost/cat.jpg", "image 1 is an address, and this service opens none"),
        ("HTTPS://localhost/cat", "image 1 is an address, and this service opens none"),
        ("data:image/svg+xml,%3Csvg%3E", "image 1 is a data: URL that is not in base64"),
        ("photos/cat.jpg", "image 1 is not base64: '.' at position 11; it looks like the name of a file"),
        ("b'AAAA'", "use .decode()"),
    ] {
        add("application/json", json!({ "image": text }).to_string().as_bytes(), body(says));
        add("application/json", json!({ "images": [text] }).to_string().as_bytes(), body(says));
    }
    let second = json!({ "images": [plain, "AAAA\u{e9}"] }).to_string();
    add("application/json", second.as_bytes(), body("image 2 is not base64: 'é' at position 5"));
    // Bodies of other servers.
    add(
        "application/json",
        json!({ "instances": [{ "b64": plain }] }).to_string().as_bytes(),
        body("`image` or `images`"),
    );
    add("application/json", json!({ "data": plain }).to_string().as_bytes(), body("`image` or `images`"));
    add(
        "application/json",
        json!({ "image": { "b64": plain } }).to_string().as_bytes(),
        body("expected a string"),
    );
    add(
        "application/json",
        json!({ "images": plain }).to_string().as_bytes(),
        body("an array of base64 texts"),
    );
    add("application/json", json!([plain]).to_string().as_bytes(), body("expected an object"));
    add("application/json", image, body("the content type is JSON and the body an image"));

    // The image itself, under every name.
    for kind in [
        "",
        "image/bmp",
        "image/*",
        "image/x-ms-bmp",
        "IMAGE/BMP; q=1",
        "image/whatever",
        "image/jpeg",
        "application/octet-stream",
        "binary/octet-stream",
        "Binary/Octet-Stream",
        "application/binary",
        "application/x-image",
        "application/x-www-form-urlencoded",
        "text/plain",
        "text/plain; charset=utf-8",
        "*/*",
        ";",
        "image",
        "nonsense",
        "video/mp4",
        "application/zip",
        "multipart/mixed; boundary=XX",
        "\u{e9}",
    ] {
        add(kind, image, Same);
    }
    // JSON under a name that says nothing.
    let with_bom = [b"\xef\xbb\xbf \r\n", &object[..]].concat();
    for kind in [
        "",
        "application/octet-stream",
        "binary/octet-stream",
        "text/plain",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "*/*",
        "application/json",
        "application/json; charset=utf-8",
        "text/json",
        "application/vnd.api+json",
    ] {
        add(kind, &object, Same);
        add(kind, &with_bom, Same);
        add(kind, b"{\"image\": 7}", body("expected a string"));
    }
    for kind in ["video/mp4", "application/xml", "text/html", "image", "multipart/mixed; boundary=XX"] {
        add(kind, &object, media("\"image\" or \"images\" in base64"));
        add(kind, b"some text", media("image/* or application/octet-stream"));
    }
    // Neither: the decoder says what it is, unless it is a text that nobody called an image.
    for kind in ["", "application/octet-stream", "binary/octet-stream", "image/jpeg"] {
        add(kind, b"some text", unread("not an image"));
        add(kind, &heic, unread("HEIC"));
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        add(kind, format!("image={plain}").as_bytes(), media("form with the field \"file\""));
        add(kind, plain.as_bytes(), media("\"image\" or \"images\" in base64"));
        add(kind, &heic, unread("HEIC"));
    }
    for kind in ["", "text/plain", "video/mp4", "application/json", FORM, "image/png"] {
        add(kind, b"", Refused(400, "no_image", "holds no image"));
    }

    // Forms.
    for field in
        ["file", "files", "file[]", "files[]", "files[0]", "image", "images", "images[]", "image[12]"]
    {
        add(FORM, &form(field, &[image.to_vec()]), Same);
        let bare = format!("content-disposition: form-data; name=\"{field}\"");
        add(FORM, &part(&bare, image), Same);
        add(FORM, &part(&bare, plain.as_bytes()), body("holds a text and no file"));
        add(FORM, &part(&bare, b"cat.jpg"), body("curl -F file=@cat.jpg"));
        add(FORM, &part(&bare, &heic), unread("HEIC"));
    }
    for field in ["img", "photo", "upload", "data", "File", "", "file[a]", "image[", "x[]"] {
        let says = "images are sent in fields named \"file\"";
        add(FORM, &form(field, &[image.to_vec()]), body(says));
    }
    add(FORM, &form("pho\x1bto", &[image.to_vec()]), body("the form is not well-formed"));
    add("multipart/form-data; boundary=\"XX\"", &form("file", &[image.to_vec()]), Same);
    add("Multipart/Form-Data; charset=utf-8; boundary=XX", &form("file", &[image.to_vec()]), Same);
    add("multipart/form-data", &form("file", &[image.to_vec()]), body("names no boundary"));
    add("multipart/form-data; boundary=XX", image, body("the form"));
    table
}

#[test]
fn every_route_takes_an_image_in_every_form_that_clients_send() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(&folder);
    let image = bmp(1);
    let expected = offline(&mut predictor(), &image, 5);
    for (kind, body, outcome) in table(&image) {
        let sample = &body[..body.len().min(120)];
        for target in ["/predict", "/v1/feedback?label=cat"] {
            let shown = format!("{target} {kind:?} {}", String::from_utf8_lossy(sample));
            let answer = service.send(&post(target, &kind, &body));
            match outcome {
                Same if target == "/predict" => {
                    assert_eq!(answer.status, 200, "{shown}\n{answer:?}");
                    assert_same(&answer.json()["predictions"][0], &expected);
                }
                Same => {
                    assert_eq!(answer.status, 201, "{shown}\n{answer:?}");
                    let id = answer.json()["id"].as_str().unwrap().to_owned();
                    let kept = service.send(&get(&format!("/v1/feedback/{id}/image")));
                    assert_eq!(kept.body, image, "{shown}");
                    let delete = format!("DELETE /v1/feedback/{id} HTTP/1.1\r\nhost: t\r\n\r\n");
                    assert_eq!(service.send(delete.as_bytes()).status, 200);
                }
                Refused(status, code, says) => {
                    // Feedback has a code of its own for a file that is no image.
                    let code =
                        if code == "undecodable_image" && target != "/predict" { "refused" } else { code };
                    assert_eq!(
                        (answer.status, answer.code().as_str()),
                        (status, code),
                        "{shown}\n{answer:?}"
                    );
                    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
                    assert!(detail.contains(says), "{shown}\n{detail}");
                    assert!(!detail.contains(char::is_control), "{detail}");
                }
            }
        }
    }
}

#[test]
fn open_inference_reads_the_same_base64() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(&folder);
    let image = bmp(1);
    let infer = |data: Value| {
        let request =
            json!({ "inputs": [{ "name": "image", "datatype": "BYTES", "shape": [1], "data": data }] });
        service.send(&post("/v2/models/m/infer", "application/json", request.to_string().as_bytes()))
    };
    let outputs = |answer: Answer| {
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["outputs"].clone()
    };
    let expected = outputs(infer(json!([base64(&image)])));
    for text in texts(&image) {
        assert_eq!(outputs(infer(json!([text]))), expected, "{text}");
        assert_eq!(outputs(infer(json!([[text]][0]))), expected);
    }
    for (text, says) in [
        ("AA*A", "value 0 is not base64: '*' at position 3; expected image files as base64 texts"),
        ("http://localhost/cat.jpg", "value 0 is an address, and this service opens none"),
        ("AAA+AAA_", "is of the other alphabet"),
    ] {
        let answer = infer(json!([text]));
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_body"));
        assert!(answer.json()["detail"].as_str().unwrap().contains(says), "{answer:?}");
    }
}
