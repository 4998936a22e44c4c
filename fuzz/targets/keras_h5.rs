#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ocelli_fuzz_checks::check("keras_h5", data));
