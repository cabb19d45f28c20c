//! Decoder of the chunked transfer coding, as strict as the grammar of RFC 9112: what two readers could read
//! differently is an error.

use bytes::{Buf, Bytes, BytesMut};

/// Digits of a chunk's size: 2^60 bytes are enough, and the number cannot overflow.
const SIZE_DIGITS_MAX: u32 = 15;
/// Bytes of chunk extensions and trailers together, which are read and dropped: nobody needs more.
const IGNORED_BYTES_MAX: usize = 8 << 10;

/// The state between two pieces of input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunked {
    state: State,
    ignored: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { value: u64, digits: u32 },
    Extension { value: u64 },
    SizeLf { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

/// What came out of a step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A piece of the body.
    Data(Bytes),
    /// More input is needed.
    More,
    /// The body is complete; what is left in the input belongs to somebody else.
    End,
}

/// The input is not chunked coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunked coding is broken: {0}")]
pub(crate) struct ChunkError(&'static str);

impl Chunked {
    pub(crate) fn new() -> Self {
        Self { state: State::Size { value: 0, digits: 0 }, ignored: 0 }
    }

    /// Takes from `input` what the next step needs.
    pub(crate) fn step(&mut self, input: &mut BytesMut) -> Result<Step, ChunkError> {
        loop {
            match self.state {
                State::End => return Ok(Step::End),
                State::Data { left } => {
                    if input.is_empty() {
                        return Ok(Step::More);
                    }
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let data = input.split_to(take).freeze();
                    let left = left - data.len() as u64;
                    self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                    return Ok(Step::Data(data));
                }
                _ => {
                    let Some(&byte) = input.first() else { return Ok(Step::More) };
                    input.advance(1);
                    self.state = self.framing(byte)?;
                }
            }
        }
    }

    /// One byte that is not data.
    fn framing(&mut self, byte: u8) -> Result<State, ChunkError> {
        Ok(match (self.state, byte) {
            (State::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == SIZE_DIGITS_MAX {
                    return Err(ChunkError("chunk size too large"));
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                State::Size { value: value * 16 + u64::from(digit), digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(ChunkError("chunk size missing")),
            (State::Size { value, .. } | State::Extension { value }, b'\r') => State::SizeLf { value },
            (State::Size { value, .. }, b';') => State::Extension { value },
            (State::Extension { value }, b) if b == b'\t' || (b' '..=b'~').contains(&b) => {
                self.ignore()?;
                State::Extension { value }
            }
            (State::SizeLf { value: 0 } | State::TrailerLf, b'\n') => State::TrailerStart,
            (State::SizeLf { value }, b'\n') => State::Data { left: value },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { value: 0, digits: 0 },
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::EndLf, b'\n') => State::End,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerStart | State::Trailer, b) if b == b'\t' || (b >= b' ' && b != 0x7f) => {
                self.ignore()?;
                State::Trailer
            }
            _ => return Err(ChunkError("unexpected byte between chunks")),
        })
    }

    fn ignore(&mut self) -> Result<(), ChunkError> {
        self.ignored += 1;
        if self.ignored > IGNORED_BYTES_MAX {
            return Err(ChunkError("extensions or trailers too large"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool, usize), ChunkError> {
        let mut decoder = Chunked::new();
        let (mut input, mut out) = (BytesMut::new(), Vec::new());
        let mut ended = false;
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                match decoder.step(&mut input)? {
                    Step::Data(data) => out.extend_from_slice(&data),
                    Step::More => break,
                    Step::End => {
                        ended = true;
                        break;
                    }
                }
            }
        }
        Ok((out, ended, input.len()))
    }

    #[test]
    fn bodies_are_read_with_extensions_and_trailers() {
        let text = b"5;name=\"v\"\r\nhello\r\n1\r\n!\r\n0\r\nX: y\r\nZ: \xe4\r\n\r\nNEXT";
        assert_eq!(decode(&[text]), Ok((b"hello!".to_vec(), true, 4)));
        assert_eq!(decode(&[b"0\r\n\r\n"]), Ok((vec![], true, 0)));
        assert_eq!(decode(&[b"5\r\nhel"]), Ok((b"hel".to_vec(), false, 0)));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_an_error() {
        for bad in [
            &b"\r\n"[..],
            b" 5\r\nhello",
            b"5 \r\nhello",
            b"-1\r\n",
            b"+5\r\nhello\r\n",
            b"0x5\r\nhello",
            b"5\nhello\n",
            b"5\r\nhello0\r\n",
            b"5\r\nhello\n0\r\n",
            b"5;\nx\r\n",
            b"5;a\0\r\n",
            b"1000000000000000\r\n",
            b"0\r\nA: b\n\r\n",
            b"0\r\n\n",
            b"g\r\n",
        ] {
            assert!(decode(&[bad]).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        let long = [b"1;".as_slice(), &vec![b'a'; IGNORED_BYTES_MAX + 1]].concat();
        assert!(decode(&[&long]).is_err());
    }

    proptest! {
        #[test]
        fn any_body_cut_anywhere_comes_back(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6), cut in 1_usize..20) {
            let mut text = Vec::new();
            for chunk in &chunks {
                text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                text.extend_from_slice(chunk);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\n\r\n");
            let pieces: Vec<&[u8]> = text.chunks(cut).collect();
            prop_assert_eq!(decode(&pieces), Ok((chunks.concat(), true, 0)));
            // No proper prefix counts as complete: a cut answer is never a whole one.
            prop_assert!(!decode(&[&text[..text.len() - 1]]).unwrap().1);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&[&bytes]);
        }
    }
}
