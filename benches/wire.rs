//! What an event costs on the measured path, and that it allocates nothing there.

use std::ops::ControlFlow;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use llmload::protocol::reply::no_sink;
use llmload::protocol::sse::Decoder;
use llmload::protocol::{Limits, Reply, Terminal};

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

/// Bytes a read; 0 stands for one event a read, which is how streams mostly arrive.
const READS: [usize; 3] = [0, 8192, 100];

fn read_size(stream: &[u8], read: usize) -> usize {
    if read == 0 { stream.len() / EVENTS } else { read }
}

#[divan::bench(args = READS)]
fn decoder_alone(bencher: Bencher, read: usize) {
    let stream = stream();
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        let mut decoder = Decoder::new(Limits::default());
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

#[divan::bench(args = READS)]
fn whole_reply(bencher: Bencher, read: usize) {
    let stream = stream();
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        let mut reply = Reply::new(Terminal::default(), Limits::default());
        let mut token_events = 0;
        for read in stream.chunks(read_size(&stream, read)) {
            token_events += reply.read(black_box(read), &mut no_sink).token_events as usize;
        }
        assert_eq!(token_events, EVENTS);
    });
}
