//! What the page's script calls: functions on numbers, with one buffer for what comes in and one text for what goes out.
//!
//! The script asks for a buffer of the length of what it has ([`ocelli_buffer`]), writes there, and calls a function. That
//! gives 0 and leaves JSON, or 1 and leaves a message for people, at [`ocelli_text`]. A panic leaves its message there,
//! too, before it ends the module: the script then starts a new one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::classifier::{Classifier, ClassifierError};

/// The model-file format that this program reads, for whoever writes a page with it.
#[unsafe(link_section = "ocelli-model-format")]
#[used]
static MODEL_FORMAT: [u8; 4] = ocelli_engine::model_file::FORMAT_VERSION.to_le_bytes();

static BUFFER: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static TEXT: Mutex<String> = Mutex::new(String::new());
static CLASSIFIER: Mutex<Option<Classifier>> = Mutex::new(None);

/// There is one thread, and a module whose call panicked is not called again.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes room for `len` bytes and says where.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ocelli_buffer(len: usize) -> *mut u8 {
    lock(&TEXT).clear();
    let mut buffer = lock(&BUFFER);
    *buffer = vec![0; len];
    buffer.as_mut_ptr()
}

/// Where the text of the last call begins.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ocelli_text() -> *const u8 {
    lock(&TEXT).as_ptr()
}

/// Its length in bytes of UTF-8.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ocelli_text_len() -> usize {
    lock(&TEXT).len()
}

/// Loads the model file in the buffer. Leaves what [`Classifier::description`] says.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ocelli_load() -> i32 {
    std::panic::set_hook(Box::new(|panic| *lock(&TEXT) = panic.to_string()));
    let file = std::mem::take(&mut *lock(&BUFFER));
    told(Classifier::load(&file).map(|loaded| {
        let description = loaded.description();
        *lock(&CLASSIFIER) = Some(loaded);
        description
    }))
}

/// Decodes the image file in the buffer.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ocelli_decode() -> i32 {
    let file = std::mem::take(&mut *lock(&BUFFER));
    with(|classifier| classifier.decode(&file))
}

/// Takes the pixels of a canvas in the buffer.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ocelli_pixels(width: u32, height: u32) -> i32 {
    let rgba = std::mem::take(&mut *lock(&BUFFER));
    with(|classifier| classifier.pixels(&rgba, width, height))
}

/// Answers for the image that was decoded or taken last.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn ocelli_answer() -> i32 {
    with(Classifier::answer)
}

fn with<T: Serialize>(f: impl FnOnce(&mut Classifier) -> Result<T, ClassifierError>) -> i32 {
    // What ends without a message leaves none of an earlier call.
    lock(&TEXT).clear();
    match &mut *lock(&CLASSIFIER) {
        Some(classifier) => told(f(classifier)),
        None => told::<()>(Err(ClassifierError::NoImage)),
    }
}

/// Leaves a result for the script.
fn told<T: Serialize>(result: Result<T, ClassifierError>) -> i32 {
    let (text, code) = match result {
        Ok(value) => (serde_json::to_string(&value).expect("it is made of numbers and texts"), 0),
        Err(error) => (error.to_string(), 1),
    };
    *lock(&TEXT) = text;
    code
}
