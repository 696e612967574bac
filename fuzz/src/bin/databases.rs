#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spectrum_fuzz::databases::run(data));
