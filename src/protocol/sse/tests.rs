//! Tests of the rules and limits, and a comparison with a slow decoder.

use super::*;
use proptest::prelude::*;

type OwnedEvent = (Vec<u8>, Vec<u8>);

struct Decoded {
    events: Vec<OwnedEvent>,
    error: Option<TooLarge>,
}

fn decode<'a>(limits: ResponseLimits, reads: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut decoder = Decoder::new(limits);
    let mut events = Vec::new();
    let mut keep = |event: SseEvent<'_>| {
        events.push((event.name.to_vec(), event.data.to_vec()));
        ControlFlow::Continue(())
    };
    let mut outcome = Ok(ControlFlow::Continue(()));
    for read in reads {
        outcome = decoder.feed(read, &mut keep);
        if outcome.is_err() {
            break;
        }
    }
    if outcome.is_ok() {
        outcome = decoder.finish(&mut keep);
    }
    assert!(outcome.is_err() || decoder.events() as usize == events.len());
    Decoded { events, error: outcome.err() }
}

/// Decodes the bytes in one read, byte by byte, and in two reads for each position of the division.
/// All results must be equal.
fn decode_every_way(limits: ResponseLimits, bytes: &[u8]) -> Decoded {
    let unsplit = decode(limits, [bytes]);
    let assert_same = |other: Decoded, how: &str| {
        assert_eq!(other.events, unsplit.events, "{how}");
        assert_eq!(other.error, unsplit.error, "{how}");
    };
    assert_same(decode(limits, bytes.chunks(1)), "byte by byte");
    for at in 0..=bytes.len() {
        assert_same(decode(limits, [&bytes[..at], &bytes[at..]]), &format!("split at {at}"));
    }
    unsplit
}

#[test]
fn each_rule_of_event_streams_holds() {
    for (bytes, expected) in [
        ("data: a\n\n", vec![("", "a")]),
        ("data:a\n\n", vec![("", "a")]),
        ("data:  a \n\n", vec![("", " a ")]),
        ("data: a\r\n\r\n", vec![("", "a")]),
        ("data: a\r\rdata: b\r\r", vec![("", "a"), ("", "b")]),
        ("data: a\r\n\ndata: b\n\r\n", vec![("", "a"), ("", "b")]),
        ("data: a\n\n\n\ndata: b\n\n", vec![("", "a"), ("", "b")]),
        ("data: a\ndata: b\ndata\n\n", vec![("", "a\nb\n")]),
        ("\u{feff}data: a\n\n", vec![("", "a")]),
        ("\u{feff}\u{feff}data: a\n\n", vec![]),
        (": ping\n\ndata: a\n: within\n\n", vec![("", "a")]),
        ("event: x\nid: 1\nretry: 5\nfoo\ndata: a\n\ndata: b\n\n", vec![("x", "a"), ("", "b")]),
        ("data: a\nevent: late\n\n", vec![("late", "a")]),
        ("data:\n\ndata: \n\ndata\n\nevent: x\n\n", vec![]),
        ("dat: a\nDATA: b\n data: c\n\n", vec![]),
        ("event: error\n\n", vec![("error", "")]),
        ("event: error\n: unspecified\n\ndata: a\n\n", vec![("error", "unspecified"), ("", "a")]),
        (": said before\nevent: error\n\n", vec![("error", "said before")]),
        (": old\n\nevent: error\n\n", vec![("error", "")]),
        (": old\ndata: a\n\nevent: error\n\n", vec![("", "a"), ("error", "")]),
        ("error: {\"code\":1}\n\n", vec![("error", "{\"code\":1}")]),
        ("error\n\n", vec![("error", "")]),
        ("data: cut", vec![("", "cut")]),
        ("data: cut\n", vec![("", "cut")]),
        ("event: error", vec![("error", "")]),
        ("data: a\n\ndata: cut\r", vec![("", "a"), ("", "cut")]),
        ("", vec![]),
        ("\r\n\r\n\n\r", vec![]),
    ] {
        let expected: Vec<OwnedEvent> =
            expected.into_iter().map(|(name, data)| (name.into(), data.into())).collect();
        let decoded = decode_every_way(ResponseLimits::default(), bytes.as_bytes());
        assert_eq!(decoded.events, expected, "{bytes:?}");
        assert_eq!(decoded.error, None, "{bytes:?}");
    }
    assert_eq!(
        decode_every_way(ResponseLimits::default(), b"\xef\xbbdata: a\n\ndata: b\n\n").events,
        [(vec![], b"b".to_vec())]
    );
    assert_eq!(
        decode_every_way(ResponseLimits::default(), b": a\n\n:\r\n:b\r\rdata: x\n: c\n\n").events,
        [(vec![], b"x".to_vec())]
    );
}

#[test]
fn the_decoder_stops_if_the_callback_returns_break() {
    let mut decoder = Decoder::new(ResponseLimits::default());
    let mut seen = 0;
    let flow = decoder.feed(b"data: a\n\ndata: b\n\n", &mut |_| {
        seen += 1;
        ControlFlow::Break(())
    });
    assert_eq!((flow, seen), (Ok(ControlFlow::Break(())), 1));
}

const SMALL: ResponseLimits =
    ResponseLimits { event: 10, stream_body: 64, unstreamed_body: 64, vectors_body: 64, events: 3 };

#[test]
fn a_response_can_reach_each_limit_but_not_exceed_it() {
    for (bytes, events, error) in [
        ("data: 6789abcdef\n\n", 1, None),
        ("data:6789abcdef\n\n", 1, None),
        ("data: 6789abcdefg\n\n", 0, Some(TooLarge::Event)),
        ("data: 6789abcdefg", 0, Some(TooLarge::Event)),
        ("data:6789abcdefg\n\n", 0, Some(TooLarge::Event)),
        (": 23456789abcdef\n", 0, None),
        (": 23456789abcdefg\n", 0, Some(TooLarge::Event)),
        ("data:1234\ndata:6789\ndata:\n\n", 1, None),
        ("data:1234\ndata:67890\ndata:\n\n", 0, Some(TooLarge::Event)),
        ("data:1\n\ndata:2\n\ndata:3\n\n", 3, None),
        ("data:1\n\ndata:2\n\ndata:3\n\ndata:4\n\n", 3, Some(TooLarge::Events)),
        ("data:1\n\ndata:2\n\ndata:3\n\ndata:4", 3, Some(TooLarge::Events)),
    ] {
        let decoded = decode_every_way(SMALL, bytes.as_bytes());
        assert_eq!((decoded.events.len(), decoded.error), (events, error), "{bytes:?}");
    }
    assert_eq!(decode_every_way(SMALL, &[b'\n'; 64]).error, None);
    assert_eq!(decode_every_way(SMALL, &[b'\n'; 65]).error, Some(TooLarge::Body));
    assert_eq!(decode_every_way(SMALL, &b":\n".repeat(40)).error, Some(TooLarge::Body));
    let tight_event = ResponseLimits { event: 4, ..SMALL };
    assert_eq!(decode_every_way(tight_event, b"data:1234\n\n").error, None);
    assert_eq!(decode_every_way(tight_event, b"data:12345\n\n").error, Some(TooLarge::Event));
}

/// Feeds the same bytes until an error. Returns the exceeded limit, the capacity of the buffers,
/// and the number of bytes.
fn feed_until_error(read: &[u8]) -> (TooLarge, usize, usize) {
    let mut decoder = Decoder::new(ResponseLimits::default());
    for reads in 1.. {
        if let Err(limit) = decoder.feed(read, &mut |_| ControlFlow::Continue(())) {
            let capacity = decoder.line.capacity()
                + decoder.data.capacity()
                + decoder.name.capacity()
                + decoder.comment.capacity()
                + decoder.stray.capacity();
            return (limit, capacity, reads * read.len());
        }
        assert!(reads * read.len() < 80 << 20, "the decoder reports an error");
    }
    unreachable!()
}

#[test]
fn an_endless_response_is_an_error_and_memory_is_bounded() {
    let limits = ResponseLimits::default();
    let (limit, capacity, fed) = feed_until_error(&[b'x'; 1000]);
    assert_eq!(limit, TooLarge::Event);
    assert!(capacity <= limits.line() && fed <= limits.line() + 1000, "{capacity} {fed}");

    let (limit, capacity, _) = feed_until_error(b"stray text\n");
    assert_eq!(limit, TooLarge::Body);
    assert!(capacity < 64 << 10, "{capacity}");

    let line = [b"data: ", &[b'x'; 4000][..], b"\n"].concat();
    let (limit, capacity, fed) = feed_until_error(&line);
    assert_eq!(limit, TooLarge::Event);
    assert!(
        capacity <= limits.event + limits.line() && fed <= limits.event + 2 * 4007 + 7 * 1050,
        "{capacity} {fed}"
    );

    let (limit, capacity, _) = feed_until_error(&b": keep-alive\n\n".repeat(1000));
    assert_eq!(limit, TooLarge::Body);
    assert!(capacity < 64 << 10, "{capacity}");

    let (limit, capacity, fed) = feed_until_error(b"data: x\n\n");
    assert_eq!((limit, fed), (TooLarge::Events, 9 * 200_001));
    assert!(capacity < 1 << 10, "{capacity}");
}

#[test]
fn one_data_line_can_fill_the_largest_event() {
    let limits = ResponseLimits::default();
    for (length, error) in [(4 << 20, None), ((4 << 20) + 1, Some(TooLarge::Event))] {
        let line = [b"data: ", &vec![b'x'; length][..], b"\n\n"].concat();
        for reads in [line.len(), 1000, 1 << 20] {
            let decoded = decode(limits, line.chunks(reads));
            assert_eq!(
                (decoded.events.len(), decoded.error),
                (usize::from(error.is_none()), error)
            );
        }
    }
    assert_eq!(limits.message(TooLarge::Event), "an event is longer than 4 MiB");
    assert_eq!(limits.message(TooLarge::Body), "the stream is longer than 64 MiB");
    assert_eq!(limits.message(TooLarge::Events), "the stream has more than 200000 events");
}

#[test]
fn the_start_of_a_body_shows_if_it_is_an_event_stream() {
    for (start, expected) in [
        ("data: a", Some(true)),
        ("data:", Some(true)),
        (": hello", Some(true)),
        ("event: message\n", Some(true)),
        ("id: 1", Some(true)),
        ("retry: 5", Some(true)),
        ("\u{feff}\r\n\n\rdata:a", Some(true)),
        ("", None),
        ("\n", None),
        ("\u{feff}", None),
        ("dat", None),
        ("\n\neven", None),
        ("{\"choices\":[]}", Some(false)),
        ("<html>", Some(false)),
        ("data is missing", Some(false)),
        ("error: no", Some(false)),
        (" data: a", Some(false)),
    ] {
        assert_eq!(begins_like_event_stream(start.as_bytes()), expected, "{start:?}");
    }
    assert_eq!(begins_like_event_stream(b"\xef\xbb"), None);
}

#[test]
fn text_outside_of_events_is_kept_up_to_a_limit() {
    let stray = |reads: &[&[u8]]| {
        let mut decoder = Decoder::new(ResponseLimits::default());
        for read in reads {
            let _flow = decoder.feed(read, &mut |_| ControlFlow::Continue(())).unwrap();
        }
        let _flow = decoder.finish(&mut |_| ControlFlow::Continue(())).unwrap();
        String::from_utf8(decoder.stray_text().to_vec()).unwrap()
    };
    let text = b": hi\nid: 1\nretry: 2\ndata: a\n\nInternal\r\nServer: Error";
    assert_eq!(stray(&[text]), "Internal\nServer: Error");
    for at in 0..text.len() {
        assert_eq!(stray(&[&text[..at], &text[at..]]), "Internal\nServer: Error", "{at}");
    }
    assert_eq!(stray(&[&b"0123456789\n".repeat(1000)]).len(), MAX_STRAY);
}

/// Decodes all bytes at once, line by line. This is slow, but short enough to check by reading.
fn reference(bytes: &[u8]) -> Vec<OwnedEvent> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut lines = vec![Vec::new()];
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'\r' if bytes.get(i + 1) == Some(&b'\n') => {
                i += 1;
                lines.push(Vec::new());
            }
            b'\r' | b'\n' => lines.push(Vec::new()),
            byte => lines.last_mut().unwrap().push(byte),
        }
        i += 1;
    }
    // A line end after the last line is optional, and so is the blank line after the last event.
    lines.push(Vec::new());

    let mut events = Vec::new();
    let (mut name, mut data, mut comment) = (Vec::new(), Vec::<Vec<u8>>::new(), Vec::new());
    for line in lines {
        if line.is_empty() {
            let joined = data.join(&b'\n');
            if name.eq_ignore_ascii_case(b"error") && data.is_empty() {
                events.push((name.clone(), comment.clone()));
            } else if name.eq_ignore_ascii_case(b"error") || !joined.is_empty() {
                events.push((name.clone(), joined));
            }
            (name, data, comment) = (Vec::new(), Vec::new(), Vec::new());
            continue;
        }
        let colon = line.iter().position(|b| *b == b':');
        let (field, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        let unspaced = value.strip_prefix(b" ").unwrap_or(value).to_vec();
        match field {
            b"" => comment = value.trim_ascii().to_vec(),
            b"data" => data.push(unspaced),
            b"event" => name = unspaced,
            b"error" => {
                name = b"error".to_vec();
                data.push(unspaced);
            }
            _ => {}
        }
    }
    events
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            &b"data: "[..], b"data:", b"data", b"event: ", b"event: error", b"error: ", b"error", b": ping", b":",
            b"\n", b"\n", b"\n\n", b"\r\n", b"\r\n\r\n", b"\r", b"\r\r", b"\xef\xbb\xbf", b"\xef\xbb", b"\xef", b" ",
            b"{\"a\":1}", b"[DONE]", "é😀".as_bytes(), b"id: 7",
        ])
        .prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_decoder_agrees_with_the_reference_for_any_bytes_and_reads(
        bytes in pieces(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let reads = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
        let decoded = decode(ResponseLimits::default(), reads);
        prop_assert_eq!(decoded.events, reference(&bytes));
        prop_assert_eq!(decoded.error, None);
    }

    #[test]
    fn the_split_into_reads_makes_no_difference_under_tight_limits(
        bytes in pieces(),
        cut in any::<prop::sample::Index>(),
    ) {
        let at = cut.index(bytes.len() + 1);
        let unsplit = decode(SMALL, [&bytes[..]]);
        let split = decode(SMALL, [&bytes[..at], &bytes[at..]]);
        prop_assert_eq!(split.events, unsplit.events);
        prop_assert_eq!(split.error, unsplit.error);
    }
}
