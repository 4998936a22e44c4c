//! Bodies of requests to the service.

use ocelli_server::Config;
use ocelli_server::fuzzing::{images, infer, retrain};
use ocelli_testing::{encode, picture};

/// Limits that small inputs can pass.
fn limits() -> Config {
    Config { images_per_request: 4, json_depth: 16, ..Config::default() }
}

/// What a client is told fits on a line and says something.
fn refused(text: &str) {
    assert!(!text.is_empty() && !text.contains('\n'), "a refusal that says {text:?}");
}

/// The images of a body hold no more than it.
fn predicted(content_type: &[u8], body: &[u8]) {
    let config = limits();
    match images(content_type, body.to_vec(), &config) {
        Ok(images) => {
            assert!(images.len() <= config.images_per_request, "more images than the limit");
            assert!(
                images.iter().map(|image| image.len()).sum::<usize>() <= body.len(),
                "images from nothing"
            );
        }
        Err(text) => refused(&text),
    }
}

/// An input is the content type, a line break and the form.
pub(crate) fn multipart(data: &[u8]) {
    let mut parts = data.splitn(2, |&byte| byte == b'\n');
    if let (Some(content_type), Some(body)) = (parts.next(), parts.next()) {
        predicted(content_type, body);
    }
}

/// The JSON bodies of `/predict` and `/retrain`.
pub(crate) fn json(data: &[u8]) {
    predicted(b"application/json", data);
    if let Err(text) = retrain(data, &limits()) {
        refused(&text);
    }
}

/// An input is the length of the JSON in two bytes, and the body.
pub(crate) fn tensors(data: &[u8]) {
    let Some((length, body)) = data.split_at_checked(2) else { return };
    let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
    for header in [None, Some(length), Some(0)] {
        if let Err(text) = infer(header, body.to_vec(), &limits()) {
            refused(&text);
        }
    }
}

pub(crate) fn multipart_seeds() -> Vec<Vec<u8>> {
    let image = encode(picture(1, 2, 2), image::ImageFormat::Png);
    let part = |name: &str| {
        let head = format!(
            "--b0\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n"
        );
        [head.as_bytes(), &image, b"\r\n"].concat()
    };
    let form = |parts: &[Vec<u8>]| {
        let head = b"multipart/form-data; boundary=b0\n".to_vec();
        [head, parts.concat(), b"--b0--\r\n".to_vec()].concat()
    };
    vec![
        form(&[part("file")]),
        form(&[part("files[0]"), part("files[1]")]),
        form(&[part("other")]),
        [b"image/png\n".as_slice(), &image].concat(),
        b"text/plain\nhello".to_vec(),
    ]
}

pub(crate) fn json_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"image": "iVBORw0KGgo="}"#,
        r#"{"images": ["aGVsbG8=", "data:image/png;base64,aGVsbG8"]}"#,
        "\u{feff}{\"image\": \"-_8=\"}",
        r#"{"dataset": "cats", "quality": "quick", "epochs": 3, "gate": {"mode": "always"}}"#,
        r#"{"from": "serving", "time_budget_s": 60, "recipe": {"size": [16, 16], "batch": 8, "augment": "light"}}"#,
        r#"[[[{"a": [1e308, -0, "\ud800"]}]]]"#,
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

pub(crate) fn tensors_seeds() -> Vec<Vec<u8>> {
    let with_length = |json: &str, raw: &[u8]| {
        let length = u16::try_from(json.len()).expect("a short text").to_le_bytes();
        [length.as_slice(), json.as_bytes(), raw].concat()
    };
    let values = [0.5f32; 36].map(f32::to_le_bytes).concat();
    let image = encode(picture(1, 2, 2), image::ImageFormat::Png);
    let text = [&(image.len() as u32).to_le_bytes(), image.as_slice()].concat();
    let pixels = |datatype: &str, bytes: usize| {
        format!(
            r#"{{"id":"a","inputs":[{{"name":"pixels","datatype":"{datatype}","shape":[1,3,4,3],"parameters":{{"binary_data_size":{bytes}}}}}],"outputs":[{{"name":"probabilities","parameters":{{"classification":2}}}}]}}"#
        )
    };
    let named = format!(
        r#"{{"inputs":[{{"name":"image","datatype":"BYTES","shape":[1],"parameters":{{"binary_data_size":{}}}}}]}}"#,
        text.len()
    );
    let numbers = vec!["0.25"; 36].join(",");
    let plain = format!(
        r#"{{"inputs":[{{"name":"pixels","datatype":"FP32","shape":[1,3,4,3],"data":[{numbers}]}}]}}"#
    );
    vec![
        with_length(&pixels("FP32", values.len()), &values),
        with_length(&pixels("UINT8", 36), &[128; 36]),
        with_length(&named, &text),
        with_length(&plain, b""),
        with_length(
            r#"{"inputs":[{"name":"image","datatype":"BYTES","shape":[1],"data":["aGVsbG8="]}]}"#,
            b"",
        ),
    ]
}
