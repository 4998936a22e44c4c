use bytes::Bytes;
use ocelli_pipeline::store::{Actor, Name, NewVersion, Store};
use ocelli_pipeline::{
    Compute, ModelFile, Pixels, Predictor, Prepared, Rejection, RejectionScore, shipped_model,
};
use serde_json::{Value, json};

use super::support::*;
use crate::models::serving::Input;
use crate::v2::codec;
use crate::v2::expected::Expected;
use crate::v2::tensors::Images;
use crate::{Access, Config, Server};

/// Pixels of whole numbers for `images` images.
fn pixels(input: Input, images: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng(seed);
    let values = input.width as usize * input.height as usize * usize::from(input.channels);
    (0..images * values).map(|_| rng.next_u64() as u8).collect()
}

/// An image file with these RGB pixels, of a width whose rows need no padding.
fn bmp_of(input: Input, rgb: &[u8]) -> Vec<u8> {
    assert!(input.channels == 3 && input.width.is_multiple_of(4));
    let mut bytes = bmp(0)[..54].to_vec();
    bytes[2..6].copy_from_slice(&(54 + rgb.len() as u32).to_le_bytes());
    bytes[18..22].copy_from_slice(&input.width.to_le_bytes());
    bytes[22..26].copy_from_slice(&input.height.to_le_bytes());
    bytes[34..38].copy_from_slice(&(rgb.len() as u32).to_le_bytes());
    // The last row comes first, blue before red.
    for row in rgb.chunks(3 * input.width as usize).rev() {
        bytes.extend(row.chunks(3).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]));
    }
    bytes
}

fn le(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Image files as the elements of a raw BYTES tensor.
fn elements(files: &[Vec<u8>]) -> Vec<u8> {
    files.iter().flat_map(|file| [&(file.len() as u32).to_le_bytes(), file.as_slice()].concat()).collect()
}

fn nested(values: &[Value], dims: &[usize]) -> Value {
    match dims {
        [_] => json!(values),
        [n, rest @ ..] => values.chunks(values.len() / n).map(|part| nested(part, rest)).collect(),
        [] => panic!("a shape has a dimension"),
    }
}

/// The service and what its model takes.
struct V2 {
    service: Service,
    name: String,
    input: Input,
    classes: usize,
}

impl V2 {
    fn start(config: Config) -> V2 {
        V2::of(Service::start(config))
    }

    fn of(service: Service) -> V2 {
        let info = &service.server.backend.models.serving().info;
        let (name, input, classes) = (info.name.clone(), info.input, info.classes.len());
        V2 { service, name, input, classes }
    }

    fn shape(&self, images: usize) -> [usize; 4] {
        [images, self.input.height as usize, self.input.width as usize, self.input.channels.into()]
    }

    fn infer_bytes(&self, head: &str, raw: &[u8], headers: &str) -> Vec<u8> {
        let body = [head.as_bytes(), raw].concat();
        let (name, length) = (&self.name, body.len());
        let head = format!(
            "POST /v2/models/{name}/infer HTTP/1.1\r\nhost: t\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        [head.into_bytes(), body].concat()
    }

    fn infer(&self, request: &Value) -> Answer {
        self.service.send(&self.infer_bytes(&request.to_string(), b"", ""))
    }

    fn infer_raw(&self, request: &Value, raw: &[u8]) -> Answer {
        let head = request.to_string();
        let header = format!("inference-header-content-length: {}\r\n", head.len());
        self.service.send(&self.infer_bytes(&head, raw, &header))
    }

    fn infer_body(&self, body: &[u8]) -> Answer {
        self.service.send(&self.infer_bytes("", body, "Inference-Header-Content-Length: 0\r\n"))
    }

    /// Probabilities of an image by class, as `/predict` says.
    fn predicted(&self, image: &[u8]) -> Vec<f32> {
        let target = format!("/predict?top_k={}", self.classes);
        let answer = self.service.send(&post(&target, "", image)).json();
        let mut row = vec![f32::NAN; self.classes];
        for ranked in answer["predictions"][0]["top"].as_array().unwrap() {
            row[ranked["index"].as_u64().unwrap() as usize] = ranked["probability"].as_f64().unwrap() as f32;
        }
        row
    }
}

/// JSON of an answer, and the raw output behind it.
fn split(answer: &Answer) -> (Value, Option<Vec<u8>>) {
    assert_eq!(answer.status, 200, "{answer:?} {}", String::from_utf8_lossy(&answer.body));
    let Some(length) = answer.headers.get("inference-header-content-length") else {
        assert_eq!(answer.headers["content-type"], "application/json");
        return (answer.json(), None);
    };
    assert_eq!(answer.headers["content-type"], "application/octet-stream");
    let (head, raw) = answer.body.split_at(length.parse().unwrap());
    let head: Value = serde_json::from_slice(head).unwrap();
    assert_eq!(head["outputs"][0]["parameters"]["binary_data_size"], raw.len());
    assert!(head["outputs"][0].get("data").is_none());
    (head, Some(raw.to_vec()))
}

/// The probabilities of an answer, raw or not.
fn probabilities(answer: &Answer) -> Vec<f32> {
    let (head, raw) = split(answer);
    let output = &head["outputs"][0];
    assert_eq!((&output["name"], &output["datatype"]), (&json!("probabilities"), &json!("FP32")));
    let values: Vec<f32> = match raw {
        Some(raw) => raw.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect(),
        None => {
            let data = output["data"].as_array().unwrap();
            data.iter().map(|value| value.as_f64().unwrap() as f32).collect()
        }
    };
    let shape: u64 = output["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).product();
    assert_eq!(values.len() as u64, shape);
    values
}

#[test]
fn every_form_of_an_image_gets_the_same_bits() {
    let v2 = V2::start(patient());
    let n = 3;
    let bytes = pixels(v2.input, n, 1);
    let files: Vec<_> = bytes.chunks(bytes.len() / n).map(|image| bmp_of(v2.input, image)).collect();
    let expected: Vec<f32> = files.iter().flat_map(|file| v2.predicted(file)).collect();
    let floats: Vec<f32> = bytes.iter().map(|&value| f32::from(value)).collect();
    let texts: Vec<Value> = files.iter().map(|file| json!(base64(file))).collect();
    let shape = v2.shape(n);
    let numbers: Vec<Value> = bytes.iter().map(|value| json!(value)).collect();
    let points: Vec<Value> = floats.iter().map(|value| json!(value)).collect();

    let in_json = [
        ("pixels", "FP32", json!(shape), json!(points)),
        ("pixels", "FP32", json!(shape), json!(numbers)),
        ("pixels", "FP32", json!(shape), nested(&points, &shape)),
        ("pixels", "UINT8", json!(shape), json!(numbers)),
        ("pixels", "UINT8", json!(shape), json!(points)),
        ("pixels", "UINT8", json!(shape), nested(&numbers, &shape)),
        ("image", "BYTES", json!([n]), json!(texts)),
        ("image", "BYTES", json!([n, 1]), json!(texts)),
        ("image", "BYTES", json!([n, 1]), nested(&texts, &[n, 1])),
    ];
    for (name, datatype, shape, data) in in_json {
        let input = json!({ "name": name, "datatype": datatype, "shape": shape, "data": data });
        let answer = v2.infer(&json!({ "inputs": [input] }));
        assert_eq!(probabilities(&answer), expected, "{name} {datatype} {shape}");
        let raw = v2.infer(&json!({ "inputs": [input], "parameters": { "binary_data_output": true } }));
        assert_eq!(probabilities(&raw), expected);
    }

    let raw = [
        ("pixels", "FP32", json!(shape), le(&floats)),
        ("pixels", "UINT8", json!(shape), bytes.clone()),
        ("image", "BYTES", json!([n]), elements(&files)),
        ("image", "BYTES", json!([n, 1]), elements(&files)),
    ];
    for (name, datatype, shape, data) in raw {
        let input = json!({ "name": name, "datatype": datatype, "shape": shape,
            "parameters": { "binary_data_size": data.len() } });
        for outputs in
            [json!([]), json!([{ "name": "probabilities", "parameters": { "binary_data": true } }])]
        {
            let answer = v2.infer_raw(&json!({ "inputs": [input], "outputs": outputs }), &data);
            assert_eq!(probabilities(&answer), expected, "{name} {datatype} {shape}");
        }
    }

    let one = floats.len() / n;
    for body in [le(&floats[..one]), bytes[..one].to_vec(), files[0].clone()] {
        let answer = v2.infer_body(&body);
        assert!(split(&answer).1.is_some(), "outputs are raw");
        assert_eq!(probabilities(&answer), expected[..v2.classes]);
    }
}

#[test]
fn fractional_pixel_values_are_16_bit_pixels() {
    let v2 = V2::start(patient());
    let n = 2;
    let floats: Vec<f32> = pixels(v2.input, n, 2).iter().map(|&v| f32::from(v) * (255.0 / 256.0)).collect();
    let images = floats.chunks(floats.len() / n).map(|image| {
        let wide = image.iter().map(|value| (f64::from(*value) * 257.0).round() as u16);
        Prepared { pixels: Pixels::U16(wide.collect()) }
    });
    let answers = predictor().predict_prepared(&images.collect::<Vec<_>>(), v2.classes).unwrap();
    let mut expected = vec![0.0; n * v2.classes];
    for (row, answer) in expected.chunks_mut(v2.classes).zip(&answers) {
        answer.top.iter().for_each(|ranked| row[ranked.index] = ranked.probability);
    }
    let input = json!({ "name": "pixels", "datatype": "FP32", "shape": v2.shape(n), "data": floats });
    assert_eq!(probabilities(&v2.infer(&json!({ "inputs": [input] }))), expected);
    let input = json!({ "name": "pixels", "datatype": "FP32", "shape": v2.shape(n),
        "parameters": { "binary_data_size": 4 * floats.len() } });
    assert_eq!(probabilities(&v2.infer_raw(&json!({ "inputs": [input] }), &le(&floats))), expected);
    assert_eq!(probabilities(&v2.infer_body(&le(&floats[..floats.len() / n]))), expected[..v2.classes]);
}

#[test]
fn a_classification_names_the_most_likely_classes() {
    let v2 = V2::start(patient());
    let labels = v2.service.server.backend.models.serving().info.classes.clone();
    let (n, bytes) = (2, pixels(v2.input, 2, 3));
    let input = json!({ "name": "pixels", "datatype": "UINT8", "shape": v2.shape(n), "data": bytes });
    let all = probabilities(&v2.infer(&json!({ "inputs": [input] })));
    for (k, binary) in [(1, false), (2, true), (2, false), (99, true), (u64::MAX, false)] {
        let wanted = json!({ "name": "probabilities",
            "parameters": { "classification": k, "binary_data": binary } });
        let (head, raw) = split(&v2.infer(&json!({ "id": "7", "inputs": [input], "outputs": [wanted] })));
        let output = &head["outputs"][0];
        let k = (k as usize).min(v2.classes);
        assert_eq!(head["id"], "7");
        assert_eq!((&output["datatype"], &output["shape"]), (&json!("BYTES"), &json!([n, k])));
        assert_eq!(raw.is_some(), binary);
        let texts: Vec<String> = match raw {
            None => serde_json::from_value(output["data"].clone()).unwrap(),
            Some(mut rest) => {
                let mut texts = Vec::new();
                while !rest.is_empty() {
                    let length = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
                    texts.push(String::from_utf8(rest[4..4 + length].to_vec()).unwrap());
                    rest.drain(..4 + length);
                }
                texts
            }
        };
        assert_eq!(texts.len(), n * k);
        for (image, ranked) in texts.chunks(k).enumerate() {
            let mut before = f32::INFINITY;
            for text in ranked {
                let parts: Vec<&str> = text.splitn(3, ':').collect();
                let (value, index): (f32, usize) = (parts[0].parse().unwrap(), parts[1].parse().unwrap());
                assert_eq!((value, parts[2]), (all[image * v2.classes + index], labels[index].as_str()));
                assert!(value <= before);
                before = value;
            }
        }
    }
}

/// Half of the images are unknown to this service.
fn doubting() -> V2 {
    let mut file = model_file();
    let rejection = |threshold| Rejection {
        score: RejectionScore::Probability,
        threshold,
        false_rejects: 0.05,
        images: 20,
        area: 0.5,
        detected: 0.5,
        strange: 0,
        means: Vec::new(),
        inner: Vec::new(),
    };
    file.meta.rejection = Some(rejection(1.0));
    let mut scores: Vec<f32> = (0..4)
        .map(|seed| {
            let mut predictor = Predictor::from_model_file(file.clone(), Compute::on(1)).unwrap();
            predictor.predict_bytes(&bmp(seed), 1).unwrap().score.unwrap()
        })
        .collect();
    scores.sort_by(f32::total_cmp);
    file.meta.rejection = Some(rejection(scores[1]));
    let predictor = Predictor::from_model_file(file, Compute::on(1)).unwrap();
    V2::of(Service::serve(Server::new(predictor, patient(), Access::default()).unwrap()))
}

#[test]
fn known_and_score_are_what_predict_says() {
    let v2 = doubting();
    let files: Vec<Vec<u8>> = (0..4).map(bmp).collect();
    let predicted: Vec<Value> = files
        .iter()
        .map(|file| v2.service.send(&post("/predict", "", file)).json()["predictions"][0].clone())
        .collect();
    let known: Vec<bool> = predicted.iter().map(|one| one["known"].as_bool().unwrap()).collect();
    let scores: Vec<f32> = predicted.iter().map(|one| one["score"].as_f64().unwrap() as f32).collect();
    assert_eq!(known.iter().filter(|&&known| known).count(), 2, "{scores:?}");

    let data = elements(&files);
    let input = json!({ "name": "image", "datatype": "BYTES", "shape": [4],
        "parameters": { "binary_data_size": data.len() } });
    let ask = |outputs: Value| v2.infer_raw(&json!({ "inputs": [input], "outputs": outputs }), &data);
    let head = ask(json!([{ "name": "score" }, { "name": "known" }])).json();
    let found = |i: usize| (&head["outputs"][i]["name"], &head["outputs"][i]["datatype"]);
    assert_eq!(found(0), (&json!("score"), &json!("FP32")));
    assert_eq!(found(1), (&json!("known"), &json!("BOOL")));
    assert_eq!(head["outputs"][0]["shape"], json!([4]));
    let told: Vec<f32> = serde_json::from_value(head["outputs"][0]["data"].clone()).unwrap();
    assert_eq!((told, &head["outputs"][1]["data"]), (scores.clone(), &json!(known)));

    // Raw ones follow each other in the order of the request, and one may stay in the JSON.
    let raw = |name: &str, raw: bool| json!({ "name": name, "parameters": { "binary_data": raw } });
    let answer = ask(json!([raw("known", true), raw("probabilities", false), raw("score", true)]));
    let length: usize = answer.headers["inference-header-content-length"].parse().unwrap();
    let (head, behind) = answer.body.split_at(length);
    let head: Value = serde_json::from_slice(head).unwrap();
    let sizes = [0, 2].map(|i| head["outputs"][i]["parameters"]["binary_data_size"].as_u64().unwrap());
    assert_eq!((sizes, behind.len()), ([4, 16], 20));
    assert_eq!(behind[..4], known.iter().map(|&known| u8::from(known)).collect::<Vec<u8>>());
    assert_eq!(behind[4..], le(&scores));
    assert_eq!(head["outputs"][1]["data"].as_array().unwrap().len(), 4 * v2.classes);

    // Nobody gets them who does not ask.
    assert_eq!(ask(json!([])).json()["outputs"].as_array().unwrap().len(), 1);
    // A model without a threshold knows everything.
    let trusting = V2::start(patient());
    let request = json!({ "inputs": [input], "outputs": [{ "name": "known" }] });
    assert_eq!(trusting.infer_raw(&request, &data).json()["outputs"][0]["data"], json!(vec![true; 4]));
}

/// Everything malformed: the text of the answer says what, and the service goes on.
#[test]
fn malformed_requests_are_refused_with_a_reason() {
    let v2 = V2::start(Config { images_per_request: 3, ..patient() });
    let shape = v2.shape(1);
    let zeros = vec![0; shape.iter().product()];
    let good = json!({ "name": "pixels", "datatype": "FP32", "shape": shape, "data": zeros });
    let with = |field: &str, value: Value| {
        let mut input = good.clone();
        input[field] = value;
        json!({ "inputs": [input] })
    };
    let out = |output: Value| json!({ "inputs": [good], "outputs": [output] });
    let wanted = |parameters: Value| out(json!({ "name": "probabilities", "parameters": parameters }));
    let files = |data: Value| json!({ "inputs": [{ "name": "image", "datatype": "BYTES", "shape": [1], "data": data }] });
    let (mut short, mut high, mut text) = (zeros.clone(), json!(zeros), json!(zeros));
    short.pop();
    high[5] = json!(255.5);
    text[5] = json!("a");
    let ragged = json!([zeros, [0]]);
    let deep = (0..40).fold(json!(0), |inner, _| json!([inner]));
    let cases = [
        (json!([]), "expected an object"),
        (json!({ "inputs": [["pixels", "FP32", [], null, []]] }), "expected an object"),
        (with("parameters", json!([])), "expected an object"),
        (wanted(json!([true, 1])), "expected an object"),
        (json!({}), "missing field `inputs`"),
        (json!({ "inputs": [] }), "0 inputs; it takes one"),
        (json!({ "inputs": [good, good] }), "2 inputs; it takes one, \"pixels\" or \"image\""),
        (json!({ "inputs": vec![json!({}); 100] }), "missing field"),
        (json!({ "inputs": vec![good.clone(); 13] }), "at most 12"),
        (with("name", json!("input_1")), "\"input_1\" is unknown; send \"pixels\" or \"image\""),
        (with("name", json!(7)), "expected a string"),
        (with("datatype", json!("FP16")), "input \"pixels\": datatype FP16; expected FP32 or UINT8"),
        (with("datatype", json!("INT64")), "datatype INT64"),
        (with("shape", json!(zeros.len())), "expected an array"),
        (with("shape", json!([])), "expected [n, 12, 12, 3]"),
        (with("shape", json!([12, 12, 3])), "expected [n, 12, 12, 3]"),
        (with("shape", json!([1, 3, 12, 12])), "shape [1, 3, 12, 12]; expected"),
        (with("shape", json!([0, 12, 12, 3])), "n images from 1 on"),
        (with("shape", json!([-1, 12, 12, 3])), "expected u64"),
        (with("shape", json!([2, 12, 12, 3])), "432 values in data; shape [2, 12, 12, 3] has 864"),
        (with("shape", json!([u64::MAX, u64::MAX, u64::MAX, u64::MAX])), "expected [n, 12, 12, 3]"),
        (with("shape", json!(vec![1; 1000])), "at most 12"),
        (with("data", json!(short)), "431 values in data"),
        (with("data", json!([])), "0 items at depth 0 do not fit"),
        (
            with("data", json!([&zeros[..], &zeros[..]].concat())),
            "more values in data than shape [1, 12, 12, 3] has",
        ),
        (with("data", json!([zeros])), "nested otherwise"),
        (with("data", ragged), "nested otherwise"),
        (with("data", json!([[[[0]]]])), "1 items at depth 3 do not fit"),
        (with("data", deep), "nested more than 32 deep"),
        (with("data", json!(5)), "nested otherwise"),
        (with("data", json!({})), "expected an array of numbers"),
        (with("data", json!([null])), "expected an array of numbers"),
        (with("data", json!(null)), "give data, or the parameter binary_data_size"),
        (with("data", high), "value 5 is 255.5; pixels go from 0 to 255"),
        (with("data", text), "value 5 is a text; expected numbers"),
        (with("parameters", json!({ "binary_data_size": 4 })), "either data or binary_data_size"),
        (with("parameters", json!({ "shared_memory_region": "a" })), "shared memory"),
        (wanted(json!({ "shared_memory_region": "a" })), "shared memory"),
        (
            json!({ "inputs": [{ "name": "pixels", "datatype": "FP32", "shape": shape,
            "parameters": { "binary_data_size": 4 } }] }),
            "needs the header",
        ),
        (
            json!({ "inputs": [{ "name": "pixels", "datatype": "UINT8", "shape": shape, "data": [1.5] }] }),
            "value 0 is 1.5; expected whole numbers from 0 to 255",
        ),
        (
            json!({ "inputs": [{ "name": "image", "datatype": "FP32", "shape": [1], "data": [""] }] }),
            "expected BYTES",
        ),
        (
            json!({ "inputs": [{ "name": "image", "datatype": "BYTES", "shape": [1, 2], "data": ["", ""] }] }),
            "expected [n] or [n, 1]",
        ),
        (files(json!(["***"])), "value 0 is not base64: '*' at position 1; expected image files as base64"),
        (files(json!([7])), "value 0 is 7; expected image files as base64"),
        (files(json!([])), "0 items at depth 0 do not fit shape [1]"),
        (out(json!({ "name": "logits" })), "output \"logits\" is unknown"),
        (
            json!({ "inputs": [good], "outputs": [{ "name": "probabilities" }, { "name": "probabilities" }] }),
            "output \"probabilities\" is asked for twice",
        ),
        (
            out(json!({ "name": "known", "parameters": { "classification": 2 } })),
            "classification is for \"probabilities\" alone",
        ),
        (out(json!({ "name": "score" })), "learnt no threshold for unknown images"),
        (wanted(json!({ "classification": 0 })), "from 1 on"),
        (wanted(json!({ "classification": -1 })), "expected u64"),
        (wanted(json!({ "binary_data": 1 })), "expected a boolean"),
        (json!({ "inputs": [good], "parameters": { "binary_data_output": "yes" } }), "expected a boolean"),
        (json!({ "inputs": [good], "id": 7 }), "expected a string"),
    ];
    let refused = |answer: Answer, part: &str| {
        let json = answer.json();
        let error = json["error"].as_str().unwrap_or_else(|| panic!("{json}"));
        assert!(answer.status == 400 && error.contains(part), "{part}: {json}");
    };
    for (request, part) in cases {
        refused(v2.infer(&request), part);
    }
    refused(v2.service.send(&v2.infer_bytes("{\"inputs\":", b"", "")), "not JSON");
    refused(v2.service.send(&v2.infer_bytes("", b"", "")), "not JSON");

    let raw = |size: u64| {
        json!({ "inputs": [{ "name": "pixels", "datatype": "UINT8", "shape": shape,
        "parameters": { "binary_data_size": size } }] })
    };
    let raw_files = |size: usize| {
        json!({ "inputs": [{ "name": "image", "datatype": "BYTES", "shape": [2],
        "parameters": { "binary_data_size": size } }] })
    };
    refused(v2.infer_raw(&raw(432), &[0; 431]), "is 432, and 431 bytes follow");
    refused(v2.infer_raw(&raw(432), &[0; 433]), "is 432, and 433 bytes follow");
    refused(v2.infer_raw(&raw(u64::MAX), &[0; 432]), "432 bytes follow");
    refused(v2.infer_raw(&raw(431), &[0; 431]), "431 bytes of data; this shape of UINT8 has 432");
    refused(v2.infer_raw(&json!({ "inputs": [good] }), b"abc"), "3 bytes behind the JSON belong to no input");
    for (data, part) in [
        (vec![], "ends inside of file 1 of 2"),
        (vec![1, 0, 0], "ends inside of file 1 of 2"),
        (vec![1, 0, 0, 0, 9], "ends inside of file 2 of 2"),
        (vec![0xff, 0xff, 0xff, 0xff, 9], "ends inside of file 1 of 2"),
        (vec![0, 0, 0, 0, 0, 0, 0, 0, 9], "1 bytes are left over behind 2 files"),
    ] {
        refused(v2.infer_raw(&raw_files(data.len()), &data), part);
    }
    for nan in [f32::NAN, f32::INFINITY, -0.5, 256.0] {
        let body = [le(&[nan]), vec![0; 4 * 431]].concat();
        refused(v2.infer_body(&body), "value 0 is");
    }
    refused(v2.infer_body(b""), "no image");
    for header in
        ["", "-1", "+1", "1e3", "99999999999999999999999", "1, 2", "1\r\ninference-header-content-length: 1"]
    {
        let header = format!("inference-header-content-length: {header}\r\n");
        refused(v2.service.send(&v2.infer_bytes("{}", b"", &header)), "is one number");
    }
    let beyond = v2.infer_bytes("{}", b"", "inference-header-content-length: 3\r\n");
    refused(v2.service.send(&beyond), "is 3, and the body has 2 bytes");

    let status = |request: &[u8]| {
        let answer = v2.service.send(request);
        assert!(answer.json()["error"].is_string());
        answer.status
    };
    assert_eq!(v2.infer(&with("shape", json!([4, 12, 12, 3]))).status, 413);
    assert_eq!(v2.infer(&files(json!(["AAAA"]))).status, 422, "well formed, and no image");
    assert_eq!(status(&v2.infer_bytes("{}", b"", "content-encoding: gzip\r\n")), 415);
    assert_eq!(status(&post("/v2/models/other/infer", "", b"{}")), 404);
    assert_eq!(status(&post(&format!("/v2/models/{}/versions/1/infer", v2.name), "", b"{}")), 404);
    assert_eq!(status(&post(&format!("/v2/models/{}/infer?a=1", v2.name), "", b"{}")), 400);
    assert_eq!(status(&get(&format!("/v2/models/{}/infer", v2.name))), 405);
    assert_eq!(v2.infer(&with("parameters", json!({ "any": [1, { "b": null }] }))).status, 200);
    v2.service.wait_for_load(0);
}

/// Cuts of valid binary requests at random places, with random lengths in the header and in the JSON: read where every
/// length agrees, else refused.
#[test]
fn lengths_that_disagree_are_refused() {
    let input = Input { width: 5, height: 4, channels: 3 };
    let expected = Expected::new(input, &Config { images_per_request: 3, ..Config::default() });
    let mut rng = Rng(11);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let n = 1 + rng.below(4);
        let (name, datatype, shape, mut raw) = match rng.below(3) {
            0 => ("pixels", "FP32", json!([n, 4, 5, 3]), le(&vec![7.25; 60 * n])),
            1 => ("pixels", "UINT8", json!([n, 4, 5, 3]), vec![7; 60 * n]),
            _ => {
                let files: Vec<Vec<u8>> = (0..n).map(|_| vec![1; rng.below(70)]).collect();
                ("image", "BYTES", json!([n]), elements(&files))
            }
        };
        let whole = raw.len();
        if rng.below(4) == 0 {
            raw.truncate(rng.below(whole + 1));
        }
        if rng.below(8) == 0 {
            raw.push(0);
        }
        if name == "image" && rng.below(4) == 0 && !raw.is_empty() {
            let at = rng.below(raw.len());
            raw[at] = rng.next_u64() as u8;
        }
        let size = if rng.below(4) == 0 { rng.below(2 * whole + 2) } else { raw.len() };
        let head = json!({ "inputs": [{ "name": name, "datatype": datatype, "shape": shape,
            "parameters": { "binary_data_size": size } }] });
        let head = head.to_string();
        let length = match rng.below(8) {
            0 => None,
            1 => Some(rng.below(head.len() + raw.len() + 9)),
            _ => Some(head.len()),
        };
        let body = Bytes::from([head.as_bytes(), &raw].concat());
        match codec::read(&body, length, &expected) {
            Ok(asked) => {
                read += 1;
                let images = match &asked.images {
                    Images::Encoded(files) => files.len(),
                    Images::Prepared(images) => {
                        assert!(images.iter().all(|image| image.pixels.len() == 60));
                        images.len()
                    }
                };
                if length == Some(0) {
                    assert_eq!(images, 1);
                } else {
                    assert_eq!((length, size, images), (Some(head.len()), raw.len(), n));
                    assert!(name == "image" || raw.len() == whole);
                }
            }
            Err(problem) => {
                refused += 1;
                assert!(problem.class().0.is_client_error(), "{problem:?}");
            }
        }
    }
    assert!(read > 3000 && refused > 3000, "{read} read, {refused} refused");
}

#[test]
fn mutated_requests_never_get_a_500() {
    let v2 = V2::start(Config { max_body: 6000, images_per_request: 3, ..patient() });
    let mut rng = Rng(12);
    let data = pixels(v2.input, 2, 5);
    let head = json!({ "id": "x", "inputs": [{ "name": "pixels", "datatype": "UINT8", "shape": v2.shape(2),
        "parameters": { "binary_data_size": data.len() } }],
        "outputs": [{ "name": "probabilities", "parameters": { "classification": 2, "binary_data": true } }] })
    .to_string();
    let text = json!({ "inputs": [{ "name": "image", "datatype": "BYTES", "shape": [1], "data": [base64(&bmp(2))] }] });
    let sources = [
        v2.infer_bytes(&head, &data, &format!("inference-header-content-length: {}\r\n", head.len())),
        v2.infer_bytes(&text.to_string(), b"", ""),
        v2.infer_bytes("", &data[..432], "inference-header-content-length: 0\r\n"),
    ];
    for _ in 0..1500 {
        let mut request = sources[rng.below(sources.len())].clone();
        for _ in 0..=rng.below(4) {
            let at = rng.below(request.len());
            match rng.below(3) {
                0 => request[at] = rng.next_u64() as u8,
                1 => drop(request.remove(at)),
                _ => request.insert(at, rng.next_u64() as u8),
            }
        }
        let mut client = v2.service.connect();
        client.write(&request);
        client.finish_sending();
        if let Some(answer) = client.try_read() {
            assert!(answer.status < 500, "{answer:?} for {}", String::from_utf8_lossy(&request));
        }
    }
    for source in sources {
        split(&v2.service.send(&source));
    }
    v2.service.wait_for_load(0);
}

#[test]
fn the_model_is_described_as_image_clients_need() {
    let v2 = V2::start(patient());
    let ask = |path: &str| {
        let answer = v2.service.send(&get(path));
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    };
    let (name, version) = (&v2.name, v2.service.server.version());
    for path in ["/v2", "/v2/"] {
        let server = ask(path);
        assert_eq!(server["name"], "ocelli");
        for extension in ["binary_tensor_data", "classification", "model_repository", "statistics"] {
            assert!(server["extensions"].as_array().unwrap().contains(&json!(extension)));
        }
    }
    assert_eq!(ask("/v2/health/live"), json!({ "live": true }));
    assert_eq!(ask("/v2/health/ready"), json!({ "live": true, "ready": true }));
    for base in [format!("/v2/models/{name}"), format!("/v2/models/{name}/versions/{version}")] {
        let model = ask(&base);
        assert_eq!((&model["name"], &model["versions"]), (&json!(name), &json!([version])));
        let input = json!([{ "name": "pixels", "datatype": "FP32", "shape": [-1, 12, 12, 3] }]);
        let output = json!([{ "name": "probabilities", "datatype": "FP32", "shape": [-1, v2.classes] }]);
        assert_eq!((&model["inputs"], &model["outputs"]), (&input, &output));
        assert_eq!(ask(&format!("{base}/ready")), json!({ "name": name, "ready": true }));
        let config = ask(&format!("{base}/config"));
        assert_eq!(config["max_batch_size"], 64);
        assert_eq!(config["input"][0]["format"], "FORMAT_NHWC");
        assert_eq!(config["input"][0]["dims"], json!([12, 12, 3]));
        assert_eq!(config["output"][0]["dims"], json!([v2.classes]));
        assert_eq!(ask(&format!("{base}/stats"))["model_stats"][0]["version"], json!(version));
    }
    for path in ["", "/ready", "/config", "/stats"] {
        assert_eq!(v2.service.send(&get(&format!("/v2/models/other{path}"))).status, 404, "{path}");
        let unknown = format!("/v2/models/{name}/versions/0123456789ab{path}");
        assert_eq!(v2.service.send(&get(&unknown)).status, 404, "{path}");
    }
    // The largest batch is one that fits the largest body.
    let small = V2::start(Config { max_body: 4 * 432 * 5 + 1024 + 1727, ..patient() });
    let config = small.service.send(&get(&format!("/v2/models/{name}/config"))).json();
    assert_eq!(config["max_batch_size"], 5);
}

#[test]
fn statistics_count_what_was_done() {
    let gate = Gate::default();
    let (closed, config) = (gate.clone(), Config { queue: 6, images_per_request: 6, ..patient() });
    let v2 = V2::of(Service::wrapped(config, |mut predict| {
        Box::new(move |images, top_k| {
            closed.pass();
            predict(images, top_k)
        })
    }));
    let bytes = pixels(v2.input, 6, 8);
    let send = |images: usize| {
        let data = &bytes[..432 * images];
        let input = json!({ "name": "pixels", "datatype": "UINT8", "shape": v2.shape(images), "data": data });
        v2.infer(&json!({ "inputs": [input] })).status
    };
    let statistics = || v2.service.send(&get("/v2/models/stats")).json()["model_stats"][0].clone();
    assert_eq!(statistics()["last_inference"], 0);
    std::thread::scope(|scope| {
        // The first runs alone; the others wait for it together.
        let first = scope.spawn(|| send(1));
        v2.service.wait_for_load(1);
        let rest = scope.spawn(|| send(5));
        v2.service.wait_for_load(6);
        assert_eq!(send(1), 429);
        gate.open();
        assert_eq!((first.join().unwrap(), rest.join().unwrap()), (200, 200));
    });
    assert_eq!(v2.service.send(&post("/predict", "", b"text")).status, 422);
    let stats = statistics();
    assert_eq!((&stats["name"], &stats["inference_count"]), (&json!(v2.name), &json!(6)));
    let inference = &stats["inference_stats"];
    assert_eq!(inference["success"]["count"], 2);
    // The unreadable one; the one that was turned away was never admitted.
    assert_eq!(inference["fail"]["count"], 1);
    for part in ["queue", "compute_input", "compute_infer"] {
        assert_eq!(inference[part]["count"], 2, "{part}");
    }
    let batches = stats["batch_stats"].as_array().unwrap();
    let runs: u64 = batches.iter().map(|batch| batch["compute_infer"]["count"].as_u64().unwrap()).sum();
    let images: u64 = batches
        .iter()
        .map(|batch| {
            batch["batch_size"].as_u64().unwrap() * batch["compute_infer"]["count"].as_u64().unwrap()
        })
        .sum();
    assert_eq!((json!(runs), images), (stats["execution_count"].clone(), 6));
    assert!(stats["last_inference"].as_u64().unwrap() > 1_700_000_000_000);
}

#[test]
fn null_is_refused_in_every_field() {
    let v2 = V2::of(Service::start(patient()));
    let file = base64(&bmp(1));
    let whole = json!({
        "id": "a",
        "parameters": { "binary_data_output": false },
        "inputs": [{ "name": "image", "datatype": "BYTES", "shape": [1, 1], "data": [file], "parameters": {} }],
        "outputs": [{ "name": "probabilities", "parameters": { "classification": 1, "binary_data": false } }]
    });
    assert_eq!(v2.infer(&whole).status, 200);
    fn pointers(value: &Value, at: String, all: &mut Vec<String>) {
        let inner: Vec<(String, &Value)> = match value {
            Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
            Value::Array(list) => list.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect(),
            _ => Vec::new(),
        };
        all.push(at.clone());
        inner.into_iter().for_each(|(key, value)| pointers(value, format!("{at}/{key}"), all));
    }
    let mut all = Vec::new();
    pointers(&whole, String::new(), &mut all);
    assert!(all.len() > 15, "{all:?}");
    for pointer in all {
        let mut request = whole.clone();
        *request.pointer_mut(&pointer).unwrap() = Value::Null;
        assert_eq!(v2.infer(&request).status, 400, "{pointer}");
    }
}

#[test]
fn versions_of_the_data_folder_are_listed_and_answer() {
    let folder = tempfile::tempdir().unwrap();
    let name = Name::new("model", "m").unwrap();
    let first = shipped_model().unwrap();
    let mut meta = first.meta.clone();
    meta.classes[0] = "another: name".into();
    let second = ModelFile { meta, ..first.clone() };
    let store = Store::open(folder.path()).unwrap();
    for file in [&first, &second] {
        store.versions(&name).unwrap().add(file, &NewVersion::default()).unwrap();
    }
    let seed = Some(first.clone());
    let state =
        Server::with_data(store, (&name, seed), Compute::on(1), patient(), Access::default(), no_worker())
            .unwrap();
    let v2 = V2::of(Service::serve(state));
    let versions = v2.service.send(&get("/v2/models/m")).json()["versions"].clone();
    let versions: Vec<String> = serde_json::from_value(versions).unwrap();
    assert_eq!(versions.len(), 2);

    let zeros = vec![0; v2.shape(1).iter().product()];
    let request = json!({ "inputs": [{ "name": "pixels", "datatype": "UINT8", "shape": v2.shape(1), "data": zeros }],
        "outputs": [{ "name": "probabilities", "parameters": { "classification": 99 } }] });
    for (version, label) in versions.iter().zip([first.meta.classes[0].as_str(), "another: name"]) {
        let target = format!("/v2/models/m/versions/{version}");
        let answer =
            v2.service.send(&post(&format!("{target}/infer"), "", request.to_string().as_bytes())).json();
        assert_eq!(answer["model_version"], json!(version));
        let labels = answer["outputs"][0]["data"].to_string();
        assert!(labels.contains(&format!(":0:{label}\"")), "{labels}");
        let stats = v2.service.send(&get(&format!("{target}/stats"))).json();
        assert_eq!(stats["model_stats"][0]["inference_count"], 1);
    }
    let all = v2.service.send(&get("/v2/models/stats")).json();
    assert_eq!(all["model_stats"].as_array().unwrap().len(), 2, "both are in memory");

    for body in ["", "{}", "{\"ready\":true}"] {
        let index = v2.service.send(&post("/v2/repository/index", "", body.as_bytes())).json();
        let line =
            |version: &String| json!({ "name": "m", "version": version, "state": "READY", "reason": "" });
        assert_eq!(index, versions.iter().map(line).collect::<Value>());
    }
    // Somebody else's promotion is taken over by a load.
    let serving = v2.service.server.version();
    let other = versions.iter().find(|version| **version != serving).unwrap();
    v2.service
        .server
        .backend
        .models
        .default()
        .versions()
        .unwrap()
        .promote(other, &Actor::service("test"))
        .unwrap();
    assert_eq!(v2.service.server.version(), serving);
    let load = |body: &str| v2.service.send(&post("/v2/repository/models/m/load", "", body.as_bytes()));
    let refused = load("{\"parameters\":{\"config\":\"{}\"}}");
    assert!(refused.status == 400 && refused.json()["error"].as_str().unwrap().contains("`config`"));
    assert_eq!(load("[null]").status, 400);
    // What is null is there and no object: it is not left out.
    for body in ["null", "{\"parameters\":[]}", "{\"parameters\":null}", "{\"parameters\":\"\"}"] {
        assert_eq!(load(body).status, 400, "{body}");
    }
    for body in ["null", "[]", "{\"ready\":null}", "{\"ready\":\"\"}"] {
        let index = v2.service.send(&post("/v2/repository/index", "", body.as_bytes()));
        assert_eq!(index.status, 400, "{body}");
    }
    assert_eq!(load("{\"parameters\":{}}").json(), json!({ "name": "m", "version": other }));
    assert_eq!(v2.service.server.version(), *other);
    let unload = v2.service.send(&post("/v2/repository/models/m/unload", "", b"{}"));
    assert!(unload.status == 400 && unload.json()["error"].as_str().unwrap().contains("always loaded"));
    for verb in ["load", "unload"] {
        assert_eq!(v2.service.send(&post(&format!("/v2/repository/models/n/{verb}"), "", b"")).status, 404);
    }
}
