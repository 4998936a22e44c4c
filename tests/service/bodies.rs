//! Archives as clients send them: under every content type and field name.

use super::*;
use crate::shapes::CLASSES;

#[test]
fn an_archive_is_recognised_by_its_first_bytes() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    let zip = archive(&photos(1, 1, &CLASSES));
    let form = |field: &str, content: &[u8]| {
        let head =
            format!("--XX\r\ncontent-disposition: form-data; name=\"{field}\"; filename=\"a.zip\"\r\n\r\n");
        [head.as_bytes(), content, b"\r\n--XX--\r\n"].concat()
    };
    let multipart = "multipart/form-data; boundary=XX";
    for kind in [
        "",
        "application/zip",
        "application/zip; charset=binary",
        "Application/ZIP",
        "application/x-zip",
        "application/x-zip-compressed",
        "multipart/x-zip",
        "application/octet-stream",
        "binary/octet-stream",
        "application/x-www-form-urlencoded",
        "text/plain",
        "image/png",
        "video/mp4",
        "nonsense",
    ] {
        let answer = service.post("/upload-data", kind, &zip);
        assert_eq!(
            (answer.status, &answer.json()["dataset"]),
            (200, &"default".into()),
            "{kind}: {answer:?}"
        );
    }
    for field in ["file", "files", "file[]", "files[0]"] {
        let answer = service.post("/upload-data", multipart, &form(field, &zip));
        assert_eq!(answer.status, 200, "{field}: {answer:?}");
    }
    let refused: [(&str, Vec<u8>, u16, &str); 9] = [
        ("video/mp4", b"no archive".to_vec(), 415, "send the ZIP as application/zip"),
        ("video/mp4", b"PK".to_vec(), 415, "send the ZIP as application/zip"),
        ("application/json", zip.clone(), 415, "send the ZIP as application/zip"),
        ("application/gzip", b"\x1f\x8b\x08\0".to_vec(), 415, "send the ZIP as application/zip"),
        ("application/x-zip", b"no archive".to_vec(), 422, ""),
        ("", b"no archive".to_vec(), 422, ""),
        ("video/mp4", Vec::new(), 400, "holds no archive"),
        (multipart, form("zip", &zip), 400, "the form has a field \"zip\"; the archive is sent as \"file\""),
        (multipart, form("image", &zip), 400, "the archive is sent as \"file\""),
    ];
    for (kind, body, status, says) in refused {
        let answer = service.post("/upload-data", kind, &body);
        let detail = text(&answer.json()["detail"]);
        assert_eq!(answer.status, status, "{kind}: {answer:?}");
        assert!(detail.contains(says), "{kind}: {detail}");
    }
}

#[test]
fn a_field_of_a_form_is_given_once() {
    let sandbox = Sandbox::new();
    let service = Service::start(&sandbox, &model());
    let zip = archive(&photos(2, 1, &CLASSES));
    type Fields<'f> = &'f [(&'f str, &'f [u8])];
    let form = |fields: Fields<'_>| {
        let mut body = Vec::new();
        for (name, content) in fields {
            let file = if *name == "dataset" { "" } else { "; filename=\"a.zip\"" };
            let head = format!("--XX\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
            body.extend([head.as_bytes(), content, b"\r\n"].concat());
        }
        body.extend(b"--XX--\r\n");
        body
    };
    let send = |path: &str, fields: Fields<'_>| {
        let answer = service.post(path, "multipart/form-data; boundary=XX", &form(fields));
        (answer.status, answer.json())
    };
    let refused: [(&str, Fields<'_>); 7] = [
        ("dataset", &[("dataset", b"a"), ("dataset", b"b"), ("file", &zip)]),
        ("dataset", &[("dataset", b"a"), ("dataset", b"a"), ("file", &zip)]),
        ("dataset", &[("dataset", b"a"), ("file", &zip), ("dataset", b"b")]),
        ("file", &[("file", &zip), ("file", &zip)]),
        ("file", &[("file", b""), ("file", &zip)]),
        ("file", &[("file", &zip), ("files", b"")]),
        ("file", &[("file", &zip), ("file[]", &zip)]),
    ];
    for (name, fields) in refused {
        let (status, answer) = send("/upload-data", fields);
        assert_eq!((status, &answer["code"]), (400, &"bad_body".into()), "{answer}");
        assert!(text(&answer["detail"]).contains(&format!("more than one field \"{name}\"")), "{answer}");
    }
    let (status, answer) = send("/upload-data?dataset=a", &[("dataset", b"b"), ("file", &zip)]);
    assert_eq!((status, &answer["code"]), (400, &"bad_body".into()), "{answer}");
    assert_eq!(service.post("/upload-data?dataset=a&dataset=a", "application/zip", &zip).status, 400);
    assert_eq!(service.json("/v1/datasets")["datasets"], json!([]), "nothing was kept");
    let (status, answer) = send("/upload-data?dataset=a", &[("dataset", b"a"), ("file", &zip)]);
    assert_eq!((status, &answer["dataset"]), (200, &"a".into()), "{answer}");
    // One image is all that a correction is about.
    let image = &photos(3, 1, &["square"])[0].1;
    let (status, answer) = send("/v1/feedback?label=a", &[("file", image), ("file", image)]);
    assert_eq!((status, &answer["code"]), (413, &"too_many_images".into()), "{answer}");
}
