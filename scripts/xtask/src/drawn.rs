//! What a machine's screen shows, counted: how much of a dumped picture has a colour.

use anyhow::{Context, Result, ensure};

/// How many percent of a picture (PPM, as QEMU writes it) have a colour, give or take what a display makes of it.
pub fn share(picture: &[u8], colour: [u8; 3]) -> Result<usize> {
    // P6, width, height and 255, then three bytes a pixel.
    let mut fields = picture.splitn(4, |byte| byte.is_ascii_whitespace());
    let mut field = || fields.next().and_then(|bytes| std::str::from_utf8(bytes).ok());
    ensure!(field() == Some("P6"), "the picture is no PPM");
    let mut number = || field().and_then(|text| text.parse::<usize>().ok()).context("the picture has no size");
    let (width, height) = (number()?, number()?);
    let rest = fields.next().context("the picture has no pixels")?;
    let pixels = rest.strip_prefix(b"255\n").context("the picture isn't of bytes")?;
    ensure!(width > 0 && height > 0 && pixels.len() == width * height * 3, "the picture is cut off");
    let has = |pixel: &&[u8]| pixel.iter().zip(colour).all(|(is, wanted)| is.abs_diff(wanted) < 16);
    Ok(pixels.chunks_exact(3).filter(has).count() * 100 / (width * height))
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn a_colour_is_counted() {
        let mut picture = b"P6\n2 2\n255\n".to_vec();
        picture.extend([255, 0, 255, 250, 3, 255, 0, 0, 0, 255, 255, 255]);
        assert_eq!(share(&picture, [255, 0, 255]).unwrap(), 50);
        assert_eq!(share(&picture, [0, 0, 0]).unwrap(), 25);
        picture.pop();
        assert!(share(&picture, [0, 0, 0]).is_err());
        assert!(share(b"P5\n1 1\n255\nx", [0, 0, 0]).is_err());
    }
}
