//! A partition table, GPT or MBR.

#![no_main]

use bakelite_disk::table::Table;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let sectors = data.len() as u64 / 512;
    if let Ok(table) = Table::read(&mut std::io::Cursor::new(data), sectors) {
        for entry in table.entries.values() {
            let _ = (entry.start(), entry.length());
        }
        let _ = (table.first_free(), table.last_usable());
    }
});
