//! One medium and four at once, where the media are the limit, for `scripts/bench flash`: each takes 20 ms for a write, whoever
//! else is served. Prints how many times one medium's rate the four together have.

use bakelite_disk::press::testing::{Fault, Faulty};
use bakelite_flash::flash::{FlashEvent, Job, Listen, flash};
use bakelite_flash::image::Image;
use std::path::Path;
use std::time::{Duration, Instant};

struct Quiet;
impl Listen for Quiet {
    fn event(&self, _: &FlashEvent) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let image = std::env::args().nth(1).ok_or("four-media IMAGE")?;
    let image = Image::open(Path::new(&image), None)?;
    let seconds = |count: usize| {
        let job = |number| Job {
            name: format!("{number}"),
            medium: Faulty::new(image.length, 0xa5, Fault::Slow(Duration::from_millis(20))),
            seed: None,
            probe: false,
            before_last: None,
        };
        let begun = Instant::now();
        let outcomes = flash(&image, (0..count).map(job).collect(), &Quiet);
        outcomes.into_iter().collect::<Result<Vec<_>, _>>().map(|_| begun.elapsed().as_secs_f64())
    };
    let (one, four) = (seconds(1)?, seconds(4)?);
    println!("four media that are the limit: {:.2} times the rate of one (bound: 3)", 4.0 * one / four);
    Ok(())
}
