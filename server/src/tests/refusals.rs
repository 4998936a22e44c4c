use super::support::*;
use crate::Config;

fn small() -> Config {
    Config { max_body: 4000, images_per_request: 3, max_top_k: 9, ..patient() }
}

/// Every refusal that our own code makes: status, code, and the one shape of the answer.
#[test]
fn each_refusal_has_its_status_and_code() {
    let service = Service::start(small());
    let image = bmp(1);
    // Headers that declare 50,000 by 50,000 and 16,385 by 8 pixels.
    let sized = |width: u32, height: u32| {
        let (width, height) = (width.to_le_bytes(), height.to_le_bytes());
        [&image[..18], &width, &height, &image[26..]].concat()
    };
    let (huge, long) = (sized(50_000, 50_000), sized(16_385, 8));
    let json = |text: &str| post("/predict", "application/json", text.as_bytes());
    let unfinished = form("file", std::slice::from_ref(&image));
    let unfinished = &unfinished[..unfinished.len() - 20];
    let two = format!("{{\"images\":[\"{}\",\"AAAA\"]}}", base64(&image));
    let many = format!("{{\"images\":[{}\"\"]}}", "\"\",".repeat(1200));
    let cases: Vec<(u16, &str, Vec<u8>)> = vec![
        (404, "no_route", get("/nowhere")),
        (404, "no_route", get("/predict/")),
        (404, "no_route", get("/%2e%2e/etc/passwd")),
        (404, "no_route", post("/upload", "image/bmp", &image)),
        (405, "method_not_allowed", get("/predict")),
        (405, "method_not_allowed", post("/status", "", b"")),
        (405, "method_not_allowed", b"OPTIONS /predict HTTP/1.1\r\nhost: t\r\n\r\n".to_vec()),
        (405, "method_not_allowed", b"TRACE /health/live HTTP/1.1\r\nhost: t\r\n\r\n".to_vec()),
        (400, "bad_query", post("/predict?top_k=0", "", &image)),
        (400, "bad_query", post("/predict?top_k=10", "", &image)),
        (400, "bad_query", post("/predict?top_k=-1", "", &image)),
        (400, "bad_query", post("/predict?top_k=99999999999999999999", "", &image)),
        (400, "bad_query", post("/predict?top_k=", "", &image)),
        (400, "bad_query", post("/predict?top_k", "", &image)),
        (400, "bad_query", post("/predict?topk=3", "", &image)),
        (400, "bad_query", post("/predict?top_k=1&top_k=2", "", &image)),
        (400, "no_image", post("/predict", "", b"")),
        (400, "no_image", post("/predict", "image/png", b"")),
        (400, "no_image", post("/predict", FORM, b"--XX--\r\n")),
        (400, "no_image", json("{}")),
        (400, "no_image", json("{\"images\":[]}")),
        (400, "no_image", json("{\"image\":null}")),
        (400, "bad_body", post("/predict", "multipart/form-data", &image)),
        (400, "bad_body", post("/predict", "multipart/form-data; boundary=", &image)),
        (400, "bad_body", post("/predict", FORM, b"no form")),
        (400, "bad_body", post("/predict", FORM, unfinished)),
        (400, "bad_body", post("/predict", FORM, &form("photo", std::slice::from_ref(&image)))),
        (400, "bad_body", json("{\"image\":")),
        (400, "bad_body", json("[]")),
        (400, "bad_body", json("{\"image\":7}")),
        (400, "bad_body", json("{\"image\":\"***\"}")),
        (400, "bad_body", json("{\"image\":\"AAAA\",\"images\":[]}")),
        (400, "bad_body", json("{\"picture\":\"AAAA\"}")),
        (400, "bad_body", json("{\"image\":\"AAAA\",\"image\":\"AAAA\"}")),
        (400, "bad_body", json("{\"image\":\"\u{0}\"}")),
        (400, "bad_body", json(&"[".repeat(3900))),
        (400, "bad_body", json("[\"aGk=\",null]")),
        (400, "bad_body", json(&many)),
        (413, "too_many_images", json("{\"images\":[\"\",\"\",\"\",\"\"]}")),
        (
            413,
            "too_many_images",
            post("/predict", FORM, &form("file", &[b"a", b"b", b"c", b"d"].map(|f| f.to_vec()))),
        ),
        (413, "body_too_large", post("/predict", "image/bmp", &[0; 4001])),
        (415, "unsupported_media_type", post("/predict", "text/plain", b"text")),
        (415, "unsupported_media_type", post("/predict", "video/mp4", b"text")),
        (415, "unsupported_media_type", post("/predict", "image", b"text")),
        (415, "unsupported_media_type", post("/predict", "image/bmp\r\ncontent-encoding: gzip", &image)),
        (
            422,
            "undecodable_image",
            post("/predict", "image/jpeg", b"This is a text, whatever its name says."),
        ),
        (422, "undecodable_image", post("/predict", "image/bmp", &image[..100])),
        (422, "undecodable_image", post("/predict", "image/bmp", &huge)),
        (422, "undecodable_image", post("/predict", "image/bmp", &long)),
        (422, "undecodable_image", post("/predict", FORM, &form("file", &[image.clone(), b"text".to_vec()]))),
        (422, "undecodable_image", json(&two)),
        (422, "undecodable_image", json("{\"image\":\"\"}")),
    ];
    for (status, code, request) in cases {
        let shown = String::from_utf8_lossy(&request[..request.len().min(120)]).into_owned();
        let answer = service.send(&request);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{shown}\n{answer:?}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        let json = answer.json();
        assert_eq!(json["status"], status);
        assert_eq!(json["type"], "about:blank");
        assert_eq!(json["error"], json["detail"]);
        assert_eq!(json["request_id"], answer.headers["x-request-id"].as_str());
        let detail = json["detail"].as_str().unwrap();
        assert!(!detail.is_empty() && !detail.contains('\n'), "{detail}");
        match status {
            405 => assert!(!answer.headers["allow"].is_empty()),
            413 => assert!(detail.contains(" 4000 ") || detail.contains(" 3 "), "{detail}"),
            _ => {}
        }
        if detail.contains("image 2 of 2") {
            assert_eq!(code, "undecodable_image");
        }
    }
    assert_eq!(service.send(&post("/predict", "", &image)).status, 200);
}

#[test]
fn the_image_at_fault_is_named() {
    let service = Service::start(small());
    let answer = service.send(&post("/predict", FORM, &form("file", &[bmp(1), b"text".to_vec(), bmp(2)])));
    assert!(
        answer.json()["detail"].as_str().unwrap().starts_with("image 2 of 3 cannot be read: "),
        "{answer:?}"
    );
}

#[test]
fn a_chunked_body_is_read_and_limited_like_any_other() {
    let service = Service::start(small());
    let head = b"POST /predict HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunked = |body: &[u8], size: usize| {
        let chunks =
            body.chunks(size).map(|c| [format!("{:x}\r\n", c.len()).as_bytes(), c, b"\r\n"].concat());
        [head.to_vec(), chunks.flatten().collect(), b"0\r\n\r\n".to_vec()].concat()
    };
    for size in [1, 7, 100, 4000] {
        assert_eq!(service.send(&chunked(&bmp(1), size)).status, 200, "chunks of {size}");
        let over = service.send(&chunked(&[0; 4001], size));
        assert_eq!((over.status, over.code().as_str()), (413, "body_too_large"), "chunks of {size}");
        assert_eq!(over.headers["connection"], "close");
    }
}

#[test]
fn ambiguous_framing_ends_the_connection() {
    let service = Service::start(patient());
    let image = bmp(1);
    let with = |headers: &str| {
        [format!("POST /predict HTTP/1.1\r\nhost: t\r\n{headers}\r\n").as_bytes(), &image].concat()
    };
    let many: String = (0..101).map(|i| format!("h{i}: x\r\n")).collect();
    let cases = [
        (400, with("content-length: 246\r\ncontent-length: 245\r\n")),
        (400, with("content-length: +246\r\n")),
        (400, with("content-length: 99999999999999999999999\r\n")),
        (400, with("transfer-encoding: gzip\r\n")),
        (400, with("content-length : 246\r\n")),
        (400, with("x: a\r\n b\r\ncontent-length: 246\r\n")),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        (431, with(&many)),
        (431, with(&format!("x: {}\r\n", "y".repeat(2000)).repeat(40))),
        (431, get(&format!("/{}", "a".repeat(66_000)))),
    ];
    for (status, request) in cases {
        let mut client = service.connect();
        client.write(&request);
        let shown = String::from_utf8_lossy(&request[..request.len().min(80)]).into_owned();
        let found = client.try_read().map(|answer| answer.status);
        // A long header is 431, or 414 where its end had arrived when the limit was looked at.
        let found = found.map(|found| if found == 414 { 431 } else { found });
        assert!(found.is_none() || found == Some(status), "{found:?} for {shown}");
        assert!(client.is_closed_by_service(), "{shown}");
        assert_eq!(service.send(&get("/health/live")).status, 200);
    }
    // A chunk size that is none breaks the body, not the header.
    let broken =
        b"POST /predict HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n";
    let answer = service.send(broken);
    assert_eq!((answer.status, answer.code().as_str()), (400, "body_broken"));
    // Both framings at once: whichever way it is read, nothing that follows is taken for a request.
    let mut client = service.connect();
    client.write(&with("content-length: 246\r\ntransfer-encoding: chunked\r\n"));
    client.write(&get("/health/live"));
    assert!(client.try_read().is_none_or(|answer| answer.status == 400));
    assert!(client.is_closed_by_service());
}

#[test]
fn mutated_requests_never_get_a_500() {
    let service = Service::start(small());
    let mut rng = Rng(7);
    let json = format!("{{\"images\":[\"{}\",\"\"]}}", base64(&bmp(2)));
    let sources = [
        post("/predict?top_k=2", "image/bmp", &bmp(1)),
        post("/predict", FORM, &form("file", &[bmp(1), bmp(2)])),
        post("/predict", "application/json", json.as_bytes()),
    ];
    for _ in 0..600 {
        let mut request = sources[rng.below(sources.len())].clone();
        for _ in 0..=rng.below(4) {
            let at = rng.below(request.len());
            match rng.below(3) {
                0 => request[at] = rng.next_u64() as u8,
                1 => drop(request.remove(at)),
                _ => request.insert(at, rng.next_u64() as u8),
            }
        }
        let mut client = service.connect();
        client.write(&request);
        client.finish_sending();
        if let Some(answer) = client.try_read() {
            assert!(answer.status < 500, "{answer:?} for {}", String::from_utf8_lossy(&request));
        }
    }
    assert_eq!(service.send(&post("/predict", "", &bmp(1))).status, 200);
    service.wait_for_load(0);
}
