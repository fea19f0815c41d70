//! Measures the cost of one event on the measured path. This path must not allocate memory.

use std::ops::ControlFlow;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use llmload::protocol::sse::Decoder;
use llmload::protocol::{Api, ResponseLimits, StreamReader, Terminal, discard_text};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const EVENTS: usize = 1000;

fn main() {
    divan::main();
}

fn stream() -> Vec<u8> {
    let event = concat!(
        r#"data: {"id":"chatcmpl-gpfMnruE0r1vDxoIlRmm458yHFrWoEwi","object":"chat.completion.chunk","created":1795302871,"#,
        r#""model":"gemma-3-270m","choices":[{"index":0,"delta":{"content":" Rome"},"logprobs":null,"finish_reason":null}]}"#,
        "\n\n"
    );
    event.repeat(EVENTS).into_bytes()
}

/// The number of bytes in each read, which is one piece of the stream as it arrives. 0 means that
/// each read contains exactly one event, as in most real streams.
const READS: [usize; 3] = [0, 8192, 100];

fn read_size(stream: &[u8], read: usize) -> usize {
    if read == 0 { stream.len() / EVENTS } else { read }
}

#[divan::bench(args = READS)]
fn decoder_alone(bencher: Bencher, read: usize) {
    let stream = stream();
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        let mut decoder = Decoder::new(ResponseLimits::default());
        let mut bytes = 0;
        for read in stream.chunks(read_size(&stream, read)) {
            let _ = black_box(decoder.feed(black_box(read), &mut |event| {
                bytes += event.data.len();
                ControlFlow::Continue(())
            }));
        }
        bytes
    });
}

fn reader() -> StreamReader {
    StreamReader::new(Api::Chat, Terminal::default(), ResponseLimits::default())
}

#[divan::bench(args = READS)]
fn stream_reader(bencher: Bencher, read: usize) {
    read_stream(bencher, read, reader);
}

#[divan::bench(args = READS)]
fn stream_reader_that_parses_every_event(bencher: Bencher, read: usize) {
    read_stream(bencher, read, || reader().with_every_event_parsed());
}

fn read_stream(bencher: Bencher, read: usize, reader: impl Fn() -> StreamReader) {
    let stream = stream();
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        let mut reader = reader();
        let mut token_events = 0;
        for read in stream.chunks(read_size(&stream, read)) {
            token_events += reader.read(black_box(read), &mut discard_text).token_events as usize;
        }
        assert_eq!(token_events, EVENTS);
    });
}
