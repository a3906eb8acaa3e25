//! Reads random bytes from a source that returns chunks of any length.

use zeroize::{Zeroize, Zeroizing};

use crate::error::NsmError;

/// Fills all of `out` from chunks of `source`. After an error `out` holds zeros.
///
/// Every chunk is looked at before it is cut to size, so that a request for one byte gets the same
/// scrutiny as one for a key.
///
/// # Errors
/// [`NsmError::ShortRandom`] for a chunk of fewer than [`MIN_CHUNK_LEN`] bytes,
/// [`NsmError::ConstantRandom`] for one whose bytes are all equal, and whatever the source fails
/// with.
pub fn fill_random(
    out: &mut [u8],
    mut source: impl FnMut() -> Result<Zeroizing<Vec<u8>>, NsmError>,
) -> Result<(), NsmError> {
    let mut filled = 0;
    while filled < out.len() {
        match source().and_then(plausible) {
            Ok(chunk) => {
                let taken = chunk.len().min(out.len() - filled);
                out[filled..filled + taken].copy_from_slice(&chunk[..taken]);
                filled += taken;
            }
            Err(error) => {
                out.zeroize();
                return Err(error);
            }
        }
    }
    Ok(())
}

fn plausible(chunk: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, NsmError> {
    if chunk.len() < MIN_CHUNK_LEN {
        return Err(NsmError::ShortRandom { len: chunk.len() });
    }
    if chunk.iter().all(|byte| *byte == chunk[0]) {
        return Err(NsmError::ConstantRandom);
    }
    Ok(chunk)
}

/// In bytes. Of this many random bytes all are equal once in 2^120; the device returns 256 at once.
pub const MIN_CHUNK_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Refusal;

    #[test]
    fn fills_everything_from_as_many_chunks_as_it_takes() {
        for len in [0, 1, 255, 256, 257, 1000] {
            let mut first = 0_u8;
            let mut out = vec![0; len];
            fill_random(&mut out, || {
                first += 1;
                Ok(Zeroizing::new(
                    (0..=255).map(|byte: u8| byte ^ first).collect(),
                ))
            })
            .unwrap();
            let expected: Vec<u8> = (1..=4)
                .flat_map(|first: u8| (0..=255).map(move |byte: u8| byte ^ first))
                .collect();
            assert_eq!(out, expected[..len]);
        }
    }

    #[test]
    fn short_output_is_refused() {
        for len in [0, 1, MIN_CHUNK_LEN - 1] {
            let mut out = [7; 32];
            let chunk = (0..len)
                .map(|byte| u8::try_from(byte).unwrap())
                .collect::<Vec<_>>();
            let error = fill_random(&mut out, || Ok(Zeroizing::new(chunk.clone()))).unwrap_err();
            assert!(
                matches!(error, NsmError::ShortRandom { len: found } if found == len),
                "{error}"
            );
            assert_eq!(out, [0; 32]);
        }
    }

    #[test]
    fn all_equal_output_is_refused_however_little_is_asked_for() {
        for (byte, asked) in [(0, 1), (0, 32), (0xff, 32), (0x41, 1000)] {
            let mut out = vec![7; asked];
            let error = fill_random(&mut out, || Ok(Zeroizing::new(vec![byte; 256]))).unwrap_err();
            assert!(matches!(error, NsmError::ConstantRandom), "{error}");
            assert!(out.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_failure_after_the_first_chunk_leaves_nothing() {
        let mut out = [7; 300];
        let mut calls = 0;
        let error = fill_random(&mut out, || {
            calls += 1;
            if calls == 1 {
                Ok(Zeroizing::new((0..=255).collect()))
            } else {
                Err(Refusal::Internal.into())
            }
        })
        .unwrap_err();
        assert!(
            matches!(error, NsmError::Refused(Refusal::Internal)),
            "{error}"
        );
        assert_eq!(out, [0; 300]);
    }
}
