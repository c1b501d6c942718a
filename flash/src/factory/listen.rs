//! The line's ear: reports of machines over the network, each heard, proved, judged and answered while the line works.
//!
//! Whatever else comes to the port gets no answer, is told once an address, and holds nothing up: an exchange has its time, its
//! size, and so many may go on at once.

use super::line::Pass;
use super::{Factory, FactoryEvent, Told, run};
use crate::error::{FlashError, io_error};
use bakelite_spec::causes::words;
use bakelite_trust::pass::{Head, LINE};
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

/// For one exchange.
const TIME: Duration = Duration::from_secs(20);
/// So many go on at once; others come again.
const MOST: usize = 32;

/// The ear, open.
#[derive(Debug)]
pub struct Ear {
    listener: TcpListener,
    running: AtomicUsize,
    strangers: Mutex<BTreeSet<IpAddr>>,
    /// What was said of machines that aren't what they prove to be; they come again and again.
    said: Mutex<BTreeSet<String>>,
}

impl Ear {
    /// Opens it.
    ///
    /// # Errors
    /// When the address isn't this computer's, or another program has the port.
    pub fn open(pass: &Pass) -> Result<Self, FlashError> {
        let failed = io_error("listening at", pass.listen.to_string());
        let open = || {
            let listener = TcpListener::bind(pass.listen)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = open().map_err(failed)?;
        Ok(Self { listener, running: AtomicUsize::new(0), strangers: Mutex::default(), said: Mutex::default() })
    }

    /// Hears whoever is there now, each in a thread of its own.
    pub fn hear<'scope, 'env>(
        &'env self,
        factory: &'env Factory,
        told: &'env dyn Told,
        threads: &'scope Scope<'scope, 'env>,
    ) {
        while let Ok((stream, from)) = self.listener.accept() {
            if self.running.fetch_add(1, Ordering::SeqCst) >= MOST {
                self.running.fetch_sub(1, Ordering::SeqCst);
                continue;
            }
            threads.spawn(move || {
                if let Err(error) = self.exchange(factory, told, stream, from) {
                    let text = format!("the record: {}", words(&error));
                    told.line(&FactoryEvent::Note { text });
                }
                self.running.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }

    fn exchange(
        &self,
        factory: &Factory,
        told: &dyn Told,
        mut stream: TcpStream,
        from: SocketAddr,
    ) -> Result<(), FlashError> {
        let heard = match read(&stream) {
            Ok(Some((head, report))) => factory.heard(&head, &report)?,
            Ok(None) => None,
            // Gone before its end: it comes again.
            Err(_) => return Ok(()),
        };
        let Some(reply) = heard else {
            let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
            if strangers.len() < MOST && strangers.insert(from.ip()) {
                let text = format!("{} has sent something that no machine of this line has signed", from.ip());
                told.line(&FactoryEvent::Note { text });
            }
            return Ok(());
        };
        match reply.news {
            Some(FactoryEvent::Note { text }) => {
                let is_new = self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(text.clone());
                is_new.then(|| told.line(&FactoryEvent::Note { text }));
            }
            Some(news) => {
                told.line(&news);
                // An installer stick's has none yet.
                run::label(factory, told)?;
            }
            None => {}
        }
        // One that doesn't hear the answer asks again.
        let _ = stream.write_all(reply.line.as_bytes());
        Ok(())
    }
}

/// A report with its head; `None` where something else came.
fn read(stream: &TcpStream) -> io::Result<Option<(Head, Vec<u8>)>> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(TIME))?;
    let mut reader = BufReader::new(Timed { stream, until: Instant::now() + TIME });
    let mut line = Vec::new();
    reader.by_ref().take(LINE).read_until(b'\n', &mut line)?;
    let Some(head) = std::str::from_utf8(&line).ok().and_then(Head::parse) else { return Ok(None) };
    let mut report = Vec::new();
    reader.take(head.length).read_to_end(&mut report)?;
    if report.len() as u64 == head.length { Ok(Some((head, report))) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// A connection that ends at its time, however slowly bytes come.
struct Timed<'a> {
    stream: &'a TcpStream,
    until: Instant,
}

impl Read for Timed<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factory::device::State;
    use crate::factory::ports::HostPorts;
    use crate::factory::tests::{Bench, ONCE};
    use crate::factory::{Mode, Quiet};
    use crate::flash::{FlashEvent, Listen};
    use crate::testing::{account, seed_on};
    use bakelite_spec::account::{Account, FaultReport};
    use bakelite_spec::seed::{PASS_KEY, Seed};
    use bakelite_trust::pass::{Answer, PassKey};

    const PASS: &str = "pass: {listen: '127.0.0.1:0', address: '127.0.0.1:7411', within: 1d}\n";

    /// Hears what the line says.
    #[derive(Default)]
    struct Said(Mutex<Vec<String>>);

    impl Listen for Said {
        fn event(&self, _: &FlashEvent) {}
    }

    impl Told for Said {
        fn line(&self, event: &FactoryEvent) {
            self.0.lock().unwrap().push(serde_json::to_string(event).unwrap());
        }
    }

    /// A machine with the seed that its medium got.
    struct Played {
        seed: Seed,
        line: SocketAddr,
    }

    impl Played {
        fn key(&self) -> PassKey {
            PassKey::parse(&self.seed.secrets[PASS_KEY]).unwrap()
        }

        fn account(&self, written: i64) -> Account {
            Account { written, serial: "pf1".into(), ..account(&self.seed) }
        }

        /// Sends a report as `key` proves it; what is answered.
        fn sends(&self, key: &PassKey, account: &Account) -> Option<Answer> {
            let report = serde_json::to_vec(account).unwrap();
            let head = Head::of(key, self.seed.ticket.as_deref().unwrap(), &report);
            let text = self.says(&[head.line().as_bytes(), &report].concat());
            head.answered(key, &text)
        }

        fn says(&self, bytes: &[u8]) -> String {
            let mut stream = TcpStream::connect(self.line).unwrap();
            stream.write_all(bytes).unwrap();
            let mut text = String::new();
            // What isn't read to its end is cut off.
            let _ = stream.read_to_string(&mut text);
            text
        }
    }

    /// A line whose media are flashed, with its ear, and the machines that they go into.
    fn line(count: usize, pass: &str) -> (Bench, Factory, Ear, Vec<Played>) {
        let bench = Bench::with(count, pass);
        (0..count).for_each(|number| bench.insert(number));
        let factory = bench.open();
        let ear = Ear::open(factory.line.pass.as_ref().unwrap()).unwrap();
        run::work(&factory, &HostPorts::new(&factory.line.ports), &ONCE, &Quiet, None).unwrap();
        let at = ear.listener.local_addr().unwrap();
        let seed = |device: &crate::factory::Device| seed_on(device.port.strip_prefix("file:").unwrap().as_ref());
        let played = |device| Played { seed: seed(&device).unwrap(), line: at };
        let machines = factory.devices().unwrap().into_iter().map(played).collect();
        (bench, factory, ear, machines)
    }

    #[test]
    fn a_machine_passes_by_what_it_proves_and_nobody_speaks_for_it() {
        let (bench, factory, ear, machines) = line(3, PASS);
        let said = Said::default();
        let [good, bad, slow] = &machines[..] else { panic!() };
        assert_eq!(good.seed.pass, Some("127.0.0.1:7411".parse().unwrap()));
        std::thread::scope(|threads| {
            let ports = HostPorts::new(&factory.line.ports);
            let (factory, ear, said) = (&factory, &ear, &said);
            // It ends when all have reported.
            let working = threads.spawn(move || run::work(factory, &ports, &Mode::default(), said, Some(ear)));
            assert_eq!(slow.says(b"GET / HTTP/1.1\r\n\r\n"), "");
            assert_eq!(slow.sends(&good.key(), &slow.account(10)), None, "another machine's key");
            let borrowed = Account { seed: slow.account(0).seed, ..good.account(10) };
            assert_eq!(good.sends(&good.key(), &borrowed), None, "another machine's report");
            assert_eq!(slow.sends(&slow.key(), &Account { available: None, ..slow.account(10) }), Some(Answer::NotYet));
            assert_eq!(good.sends(&good.key(), &good.account(10)), Some(Answer::Good));
            let fault =
                FaultReport { code: "no-network".into(), who: "you".into(), what: "x".into(), hint: String::new() };
            let faulty = |written| Account { faults: vec![fault.clone()], ..bad.account(written) };
            assert_eq!(bad.sends(&bad.key(), &faulty(20)), Some(Answer::Bad));
            // What is sent again, by whomever, changes nothing; what is later does.
            assert_eq!(bad.sends(&bad.key(), &bad.account(20)), Some(Answer::Bad));
            assert_eq!(bad.sends(&bad.key(), &bad.account(21)), Some(Answer::Good));
            assert_eq!(bad.sends(&bad.key(), &faulty(20)), Some(Answer::Good));
            assert_eq!(slow.sends(&slow.key(), &slow.account(11)), Some(Answer::Good));
            working.join().unwrap().unwrap();
        });
        let devices = factory.devices().unwrap();
        for device in &devices {
            let told = (device.state, device.heard.as_deref(), device.serial.as_deref());
            assert_eq!(told, (State::Passed, Some("network"), Some("pf1")), "{}", device.row);
        }
        let said = said.0.into_inner().unwrap();
        let judged = |word: &str| said.iter().filter(|line| line.contains("judged") && line.contains(word)).count();
        assert_eq!((judged("good"), judged("bad"), judged("not-yet")), (3, 1, 1), "{said:?}");
        assert_eq!(said.iter().filter(|line| line.contains("no machine of this line")).count(), 1, "{said:?}");
        // No key is in what is recorded or said.
        let folder = bench.folder();
        let files = ["line.sqlite", "line.sqlite-wal"].map(|name| std::fs::read(folder.join(name)).unwrap_or_default());
        for machine in &machines {
            let key = machine.seed.secrets[PASS_KEY].clone();
            assert!(!said.concat().contains(&key));
            assert!(files.iter().all(|bytes| !bytes.windows(key.len()).any(|part| part == key.as_bytes())));
        }
        drop(factory);
        // The same line the next day: the same keys.
        let again = bench.open();
        assert_eq!(again.key.as_ref().unwrap().of_machine(&devices[0].ticket), good.key());
    }

    #[test]
    fn what_is_not_heard_of_in_time_is_told_once_and_may_still_report() {
        let (_bench, factory, ear, machines) = line(1, &PASS.replace("1d", "0"));
        let (said, ports) = (Said::default(), HostPorts::new(&factory.line.ports));
        let work = || run::work(&factory, &ports, &Mode::default(), &said, Some(&ear)).unwrap();
        work();
        work();
        assert_eq!(said.0.lock().unwrap().iter().filter(|line| line.contains("silent")).count(), 1);
        let device = &factory.devices().unwrap()[0];
        assert_eq!((device.state, device.why.as_str()), (State::Written, "no report within 0 min"));
        let report = serde_json::to_vec(&machines[0].account(5)).unwrap();
        let head = Head::of(&machines[0].key(), &device.ticket, &report);
        assert!(factory.heard(&head, &report).unwrap().is_some_and(|reply| reply.news.is_some()));
        let device = &factory.devices().unwrap()[0];
        assert_eq!((device.state, device.why.as_str()), (State::Passed, ""));
    }

    #[test]
    fn an_address_that_machines_cannot_reach_is_refused_and_so_is_a_strange_key() {
        let bench = Bench::with(1, "pass: {listen: '0.0.0.0:7411'}\n");
        assert!(bench.refusal().contains("can't reach this address"), "{}", bench.refusal());
        let bench = Bench::with(1, PASS);
        drop(bench.open());
        let key = bench.folder().join("line.key");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        std::fs::File::create(&key).unwrap().write_all(b"hunter2").unwrap();
        assert!(bench.refusal().contains("isn't a line's key") && !bench.refusal().contains("hunter2"));
    }
}
