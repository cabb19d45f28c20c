//! Tables of documents that are refused, in whole or in part, each with the place and the code it is refused under.
//! The documents are made from two that are in order by replacing one piece.

use dujiang_bank_messages::status::{self, Original, Outcome, Report, Stamp, Status};
use dujiang_bank_messages::{FaultCode, Faults, Moment, Terms, pacs008, pain001, xml};
use jiff::civil::date;

/// Wages of a village cooperative: two transfers, one within the bank and one to another bank by its CNAPS number.
const WAGES: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.001.001.09">
  <CstmrCdtTrfInitn>
    <GrpHdr>
      <MsgId>WAGES-2026-11</MsgId><CreDtTm>2026-11-23T08:15:00+08:00</CreDtTm>
      <NbOfTxs>2</NbOfTxs><CtrlSum>8200.50</CtrlSum>
      <InitgPty><Nm>青神县竹编专业合作社</Nm></InitgPty>
    </GrpHdr>
    <PmtInf>
      <PmtInfId>WAGES-2026-11-A</PmtInfId><PmtMtd>TRF</PmtMtd><NbOfTxs>2</NbOfTxs><CtrlSum>8200.5</CtrlSum>
      <PmtTpInf><CtgyPurp><Cd>SALA</Cd></CtgyPurp></PmtTpInf>
      <ReqdExctnDt><Dt>2026-11-24</Dt></ReqdExctnDt>
      <Dbtr><Nm>青神县竹编专业合作社</Nm></Dbtr>
      <DbtrAcct><Id><Othr><Id>6200010000000017</Id></Othr></Id><Ccy>CNY</Ccy></DbtrAcct>
      <DbtrAgt><FinInstnId><ClrSysMmbId><ClrSysId><Cd>CNAPS</Cd></ClrSysId><MmbId>402651000011</MmbId></ClrSysMmbId></FinInstnId></DbtrAgt>
      <CdtTrfTxInf>
        <PmtId><InstrId>1</InstrId><EndToEndId>W-1</EndToEndId></PmtId>
        <Amt><InstdAmt Ccy="CNY">4200.50</InstdAmt></Amt>
        <Cdtr><Nm>王小丫</Nm></Cdtr>
        <CdtrAcct><Id><Othr><Id>6200010000000025</Id></Othr></Id></CdtrAcct>
        <RmtInf><Ustrd>十一月工资 &amp; 补贴</Ustrd></RmtInf>
      </CdtTrfTxInf>
      <CdtTrfTxInf>
        <PmtId><InstrId>2</InstrId><EndToEndId>W-2</EndToEndId></PmtId>
        <Amt><InstdAmt Ccy="CNY">4000</InstdAmt></Amt>
        <CdtrAgt><FinInstnId><BICFI>PCBCCNBJSCX</BICFI></FinInstnId></CdtrAgt>
        <Cdtr><Nm>𠮷田 and O'Neil</Nm></Cdtr>
        <CdtrAcct><Id><IBAN>GB29NWBK60161331926819</IBAN></Id></CdtrAcct>
      </CdtTrfTxInf>
    </PmtInf>
  </CstmrCdtTrfInitn>
</Document>
"#;

const CLEARED: &str = r#"<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08"><FIToFICstmrCdtTrf>
  <GrpHdr><MsgId>CLR-77</MsgId><CreDtTm>2026-11-23T10:00:00Z</CreDtTm><NbOfTxs>2</NbOfTxs>
    <TtlIntrBkSttlmAmt Ccy="CNY">150.00</TtlIntrBkSttlmAmt><IntrBkSttlmDt>2026-11-23</IntrBkSttlmDt>
    <SttlmInf><SttlmMtd>CLRG</SttlmMtd></SttlmInf></GrpHdr>
  <CdtTrfTxInf><PmtId><EndToEndId>NOTPROVIDED</EndToEndId><TxId>T1</TxId></PmtId>
    <IntrBkSttlmAmt Ccy="CNY">100.00</IntrBkSttlmAmt><ChrgBr>SLEV</ChrgBr>
    <Dbtr><Nm>李雷</Nm></Dbtr><DbtrAcct><Id><Othr><Id>1001</Id></Othr></Id></DbtrAcct>
    <DbtrAgt><FinInstnId><BICFI>PCBCCNBJ</BICFI></FinInstnId></DbtrAgt>
    <CdtrAgt><FinInstnId><BICFI>ABOCCNBJ</BICFI></FinInstnId></CdtrAgt>
    <Cdtr><Nm>韩梅梅</Nm></Cdtr><CdtrAcct><Id><Othr><Id>2001</Id></Othr></Id></CdtrAcct></CdtTrfTxInf>
  <CdtTrfTxInf><PmtId><EndToEndId>NOTPROVIDED</EndToEndId><TxId>T2</TxId></PmtId>
    <IntrBkSttlmAmt Ccy="CNY">50.00</IntrBkSttlmAmt><ChrgBr>SHAR</ChrgBr>
    <Dbtr><Nm>李雷</Nm></Dbtr><DbtrAcct><Id><Othr><Id>1001</Id></Othr></Id></DbtrAcct>
    <DbtrAgt><FinInstnId><BICFI>PCBCCNBJ</BICFI></FinInstnId></DbtrAgt>
    <CdtrAgt><FinInstnId><BICFI>ABOCCNBJ</BICFI></FinInstnId></CdtrAgt>
    <Cdtr><Nm>韩梅梅</Nm></Cdtr><CdtrAcct><Id><Othr><Id>2001</Id></Othr></Id></CdtrAcct></CdtTrfTxInf>
</FIToFICstmrCdtTrf></Document>"#;

fn terms() -> Terms {
    Terms::on(date(2026, 11, 23))
}

fn wages(from: &str, to: &str) -> Result<pain001::Initiation, Faults> {
    assert!(WAGES.contains(from), "{from} is not in the document");
    pain001::read(WAGES.replacen(from, to, 1).as_bytes(), terms())
}

fn cleared(from: &str, to: &str) -> Result<pacs008::Transfers, Faults> {
    assert!(CLEARED.contains(from), "{from} is not in the document");
    pacs008::read(CLEARED.replacen(from, to, 1).as_bytes(), terms())
}

fn has(faults: &Faults, code: FaultCode, path: &str) {
    assert!(
        faults.told().iter().any(|fault| fault.code == code && fault.path.ends_with(path)),
        "{code} at {path} is not in: {faults}"
    );
}

#[test]
fn a_message_in_order_is_read_as_it_is_meant() {
    let message = wages("W-1", "W-1").unwrap();
    assert!(message.is_whole());
    let batch = &message.instructions[0];
    assert_eq!((batch.debtor.name.as_deref(), batch.transfers.len()), (Some("青神县竹编专业合作社"), 2));
    assert_eq!(batch.transfers[0].amount.to_string(), "4200.50 CNY");
    assert_eq!(batch.transfers[0].creditor.name.as_deref(), Some("王小丫"));
    assert_eq!(batch.transfers[0].remittance, ["十一月工资 & 补贴"]);
    assert_eq!(batch.transfers[1].creditor.name.as_deref(), Some("𠮷田 and O'Neil"));
    let message = cleared("T1", "T1").unwrap();
    assert_eq!((message.transfers.len(), message.refused.len()), (2, 0));
    assert_eq!(message.transfers[1].settled_on, date(2026, 11, 23));
}

#[test]
fn what_is_no_harmless_xml_is_refused_whole() {
    let laughs =
        "<!DOCTYPE d [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;\">]>\n<Document";
    let external = "<!DOCTYPE d [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>\n<Document";
    let deep = format!("{}W-1{}", "<a>".repeat(40), "</a>".repeat(40));
    let attributes: Vec<_> = (0..33).map(|n| format!("a{n}=\"\"")).collect();
    let attributes = format!("<MsgId {}>", attributes.join(" "));
    let cases: &[(&str, &str, FaultCode)] = &[
        ("<Document", laughs, FaultCode::XmlForbidden),
        ("<Document", external, FaultCode::XmlForbidden),
        ("<Document", "<!doctype d><Document", FaultCode::XmlForbidden),
        ("<Document", "<?xml-stylesheet href=\"x\"?><Document", FaultCode::XmlForbidden),
        ("W-1", "&x;", FaultCode::XmlForbidden),
        ("W-1", "&#0;", FaultCode::XmlMalformed),
        ("W-1", "&#xFFFE;", FaultCode::XmlMalformed),
        ("W-1", "&", FaultCode::XmlMalformed),
        ("W-1", "\u{1}", FaultCode::XmlMalformed),
        ("W-1", &deep, FaultCode::XmlTooLarge),
        ("<MsgId>", &attributes, FaultCode::XmlTooLarge),
        ("<GrpHdr>", "<?xml version=\"1.0\"?><GrpHdr>", FaultCode::XmlMalformed),
        ("UTF-8", "GB18030", FaultCode::XmlEncoding),
        ("version=\"1.0\"", "version=\"1.1\"", FaultCode::XmlMalformed),
        ("</Document>", "", FaultCode::XmlMalformed),
        ("</Document>", "</Document><Document/>", FaultCode::XmlMalformed),
        ("</Document>", "</Document>text", FaultCode::XmlMalformed),
        ("</GrpHdr>", "</PmtInf>", FaultCode::XmlMalformed),
        ("Ccy=\"CNY\"", "Ccy=\"CNY\" Ccy=\"USD\"", FaultCode::XmlMalformed),
        ("pain.001.001.09", "pain.001.001.03", FaultCode::MessageUnexpected),
        ("<MsgId>", "<MsgId xmlns=\"urn:other\">", FaultCode::MessageUnexpected),
        ("xmlns=", "xmlns:x=", FaultCode::MessageUnexpected),
    ];
    for (from, to, code) in cases {
        has(&wages(from, to).expect_err(to), *code, "");
    }
    assert_eq!(xml::parse(&[0xff, 0xfe, 0x3c]).unwrap_err().told()[0].code, FaultCode::XmlEncoding);
    assert_eq!(
        xml::parse(&vec![b' '; xml::BYTES_MAX + 1]).unwrap_err().told()[0].code,
        FaultCode::XmlTooLarge
    );
    let many = format!("<a xmlns=\"u\">{}</a>", "<b/>".repeat(xml::ELEMENTS_MAX));
    assert_eq!(xml::parse(many.as_bytes()).unwrap_err().told()[0].code, FaultCode::XmlTooLarge);
    // Faults of each of these would take a hundred times their bytes.
    let empty = "<PmtInf/>".repeat(dujiang_bank_messages::TRANSFERS_MAX + 1);
    has(&wages("<PmtInf>", &format!("{empty}<PmtInf>")).unwrap_err(), FaultCode::XmlTooLarge, "/Document");
    // Names are a sender's text, too: of a long one no fault repeats more than a little.
    let long = "x".repeat(1 << 20);
    for (from, to) in [("<MsgId>", format!("<{long}/><MsgId>")), ("</GrpHdr>", format!("</{long}>"))] {
        let faults = wages(from, &to).unwrap_err();
        assert!(faults.to_string().len() < 1_000, "{}", faults.to_string().len());
    }
    for nothing in ["", " ", "<!-- -->", "<a", "plain"] {
        assert!(pain001::read(nothing.as_bytes(), terms()).is_err(), "{nothing}");
    }
}

#[test]
fn prefixes_comments_sections_and_schema_locations_are_no_fault() {
    let prefixed = WAGES
        .replace("</", "</p:")
        .replace('<', "<p:")
        .replace("<p:/p:", "</p:")
        .replace("<p:?xml", "<?xml")
        .replace("xmlns=", "xmlns:p=");
    assert_eq!(pain001::read(prefixed.as_bytes(), terms()), wages("W-1", "W-1"));
    let dressed = WAGES.replace("王小丫", "<!-- who --><![CDATA[王小丫]]>").replace(
        "<Document ",
        "<Document xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:schemaLocation=\"a b\" ",
    );
    assert_eq!(pain001::read(format!("\u{feff}{dressed}").as_bytes(), terms()), wages("W-1", "W-1"));
}

#[test]
fn faults_of_the_header_refuse_the_message() {
    let cases = [
        (
            "<NbOfTxs>2</NbOfTxs><CtrlSum>8200.50",
            "<NbOfTxs>3</NbOfTxs><CtrlSum>8200.50",
            FaultCode::CountMismatch,
            "GrpHdr/NbOfTxs",
        ),
        ("8200.50", "8200.51", FaultCode::SumMismatch, "GrpHdr/CtrlSum"),
        ("8200.50", "8200.500000001", FaultCode::SumMismatch, "GrpHdr/CtrlSum"),
        ("8200.50", "8.2e3", FaultCode::ValueNumber, "GrpHdr/CtrlSum"),
        ("<MsgId>WAGES-2026-11</MsgId>", "", FaultCode::ElementMissing, "GrpHdr/MsgId"),
        ("<MsgId>WAGES-2026-11</MsgId>", "<MsgId> </MsgId>", FaultCode::ValueEmpty, "GrpHdr/MsgId"),
        (
            "<MsgId>WAGES-2026-11",
            "<MsgId>123456789012345678901234567890123456",
            FaultCode::ValueTooLong,
            "GrpHdr/MsgId",
        ),
        ("<MsgId>", "<MsgID>1</MsgID><MsgId>", FaultCode::ElementUnknown, "GrpHdr/MsgID"),
        ("<MsgId>", "<MsgId>0</MsgId><MsgId>", FaultCode::ElementRepeated, "GrpHdr/MsgId"),
        ("<MsgId>", "<NbOfTxs>2</NbOfTxs><MsgId>", FaultCode::ElementMisplaced, "GrpHdr/MsgId"),
        ("<MsgId>", "<MsgId lang=\"zh\">", FaultCode::AttributeUnknown, "GrpHdr/MsgId"),
        ("08:15:00+08:00", "25:15:00+08:00", FaultCode::ValueDate, "GrpHdr/CreDtTm"),
        ("<GrpHdr>", "<GrpHdr>text", FaultCode::ElementContent, "/GrpHdr"),
        ("<InitgPty><Nm>", "<InitgPty><Nm><b/>", FaultCode::ElementContent, "InitgPty/Nm"),
        ("<InitgPty>", "<InitgPty><CtctDtls/>", FaultCode::ElementUnsupported, "InitgPty/CtctDtls"),
    ];
    for (from, to, code, path) in cases {
        has(&wages(from, to).expect_err(to), code, path);
    }
}

#[test]
fn faults_of_an_instruction_refuse_its_transfers() {
    let cases = [
        ("<PmtMtd>TRF", "<PmtMtd>CHK", FaultCode::ValueCode, "PmtInf[1]/PmtMtd"),
        ("<CtrlSum>8200.5<", "<CtrlSum>8200<", FaultCode::SumMismatch, "PmtInf[1]/CtrlSum"),
        ("<Dt>2026-11-24", "<Dt>2026-11-22", FaultCode::DatePast, "PmtInf[1]/ReqdExctnDt"),
        ("<Dt>2026-11-24", "<Dt>2028-11-24", FaultCode::DateTooFar, "PmtInf[1]/ReqdExctnDt"),
        ("<Dt>2026-11-24", "<Dt>2026-11-31", FaultCode::ValueDate, "PmtInf[1]/ReqdExctnDt/Dt"),
        ("<Ccy>CNY", "<Ccy>ABC", FaultCode::CurrencyUnknown, "DbtrAcct/Ccy"),
        ("402651000011", "40265100001", FaultCode::AgentIdentifier, "ClrSysMmbId/MmbId"),
        ("<Dbtr><Nm>青神县竹编专业合作社</Nm></Dbtr>", "", FaultCode::ElementMissing, "PmtInf[1]/Dbtr"),
    ];
    for (from, to, code, path) in cases {
        let message = wages(from, to).expect(to);
        assert_eq!((message.instructions.len(), message.refused.len()), (0, 1), "{to}");
        has(&message.refused[0].faults, code, path);
        assert_eq!(message.refused[0].transfers, 2);
    }
}

#[test]
fn faults_of_a_transfer_refuse_it_alone() {
    let cases = [
        ("4200.50<", "4200.500<", FaultCode::AmountDecimals, "Amt/InstdAmt"),
        ("GB29", "GB30", FaultCode::AccountCheckDigits, "CdtrAcct/Id/IBAN"),
        ("PCBCCNBJSCX", "PCBCCNBJS", FaultCode::AgentIdentifier, "FinInstnId/BICFI"),
        ("<BICFI>PCBCCNBJSCX</BICFI>", "", FaultCode::AgentIdentifier, "CdtrAgt/FinInstnId"),
        (
            "<EndToEndId>W-2",
            "<EndToEndId>W-1",
            FaultCode::IdentifierDuplicate,
            "CdtTrfTxInf[2]/PmtId/EndToEndId",
        ),
        ("<InstrId>2", "<InstrId>1", FaultCode::IdentifierDuplicate, "CdtTrfTxInf[2]/PmtId/InstrId"),
        ("<EndToEndId>W-2</EndToEndId>", "", FaultCode::ElementMissing, "CdtTrfTxInf[2]/PmtId/EndToEndId"),
        ("<Nm>王小丫</Nm>", "", FaultCode::ElementMissing, "CdtTrfTxInf[1]/Cdtr/Nm"),
        ("<Ustrd>", "<Strd/><Ustrd>", FaultCode::ElementUnsupported, "RmtInf/Strd"),
        (
            "<Amt><InstdAmt Ccy=\"CNY\">4000",
            "<ChrgBr>DEBT</ChrgBr><Amt><InstdAmt Ccy=\"CNY\">4000",
            FaultCode::ElementMisplaced,
            "CdtTrfTxInf[2]/Amt",
        ),
        (
            "<Amt><InstdAmt Ccy=\"CNY\">4000",
            "<Amt><InstdAmt>4000",
            FaultCode::AttributeMissing,
            "Amt/InstdAmt",
        ),
        (
            "<Amt><InstdAmt Ccy=\"CNY\">4000",
            "<Amt><InstdAmt Ccy=\"cny\">4000",
            FaultCode::CurrencyUnknown,
            "Amt/InstdAmt",
        ),
        (
            "<Amt><InstdAmt Ccy=\"CNY\">4000",
            "<PmtTpInf><InstrPrty>HIGH</InstrPrty></PmtTpInf><Amt><InstdAmt Ccy=\"CNY\">4000",
            FaultCode::RuleBroken,
            "CdtTrfTxInf[2]/PmtTpInf",
        ),
        (
            "<InstrId>2",
            "<UETR>6f9619ff-8b86-d011-b42d-00cf4fc964ff</UETR><InstrId>2",
            FaultCode::ValuePattern,
            "PmtId/UETR",
        ),
    ];
    for (from, to, code, path) in cases {
        let message = wages(from, to).expect(to);
        let batch = &message.instructions[0];
        assert_eq!((batch.transfers.len(), batch.refused.len()), (1, 1), "{to}");
        has(&batch.refused[0].faults, code, path);
    }
    // An amount of nothing changes the sums, too: here they agree.
    let zero = WAGES.replace(">4000<", ">0<").replace("8200.50", "4200.50").replace("8200.5", "4200.5");
    let message = pain001::read(zero.as_bytes(), terms()).unwrap();
    has(&message.instructions[0].refused[0].faults, FaultCode::AmountZero, "CdtTrfTxInf[2]/Amt/InstdAmt");
}

#[test]
fn an_amount_that_is_no_number_leaves_the_sums_unproven() {
    has(&wages(">4000<", ">4 000<").unwrap_err(), FaultCode::SumMismatch, "GrpHdr/CtrlSum");
}

#[test]
fn between_banks_totals_settlement_and_days_must_agree() {
    let whole = [
        ("150.00", "150.01", FaultCode::SumMismatch, "GrpHdr/TtlIntrBkSttlmAmt"),
        ("\"CNY\">50.00", "\"USD\">50.00", FaultCode::CurrencyMixed, "GrpHdr/TtlIntrBkSttlmAmt"),
        ("<NbOfTxs>2", "<NbOfTxs>1", FaultCode::CountMismatch, "GrpHdr/NbOfTxs"),
        (
            "CLRG</SttlmMtd>",
            "CLRG</SttlmMtd><SttlmAcct><Id><Othr><Id>1</Id></Othr></Id></SttlmAcct>",
            FaultCode::RuleBroken,
            "SttlmInf/SttlmAcct",
        ),
        (
            "CLRG</SttlmMtd>",
            "INDA</SttlmMtd><ClrSys><Cd>CNP</Cd></ClrSys>",
            FaultCode::RuleBroken,
            "SttlmInf/ClrSys",
        ),
        ("CLRG</SttlmMtd>", "COVE</SttlmMtd>", FaultCode::ValueCode, "SttlmInf/SttlmMtd"),
        ("2026-11-23<", "2028-11-23<", FaultCode::DateTooFar, "GrpHdr/IntrBkSttlmDt"),
    ];
    for (from, to, code, path) in whole {
        has(&cleared(from, to).expect_err(to), code, path);
    }
    let alone = [
        ("T2", "T1", FaultCode::IdentifierDuplicate, "CdtTrfTxInf[2]/PmtId/TxId"),
        ("<ChrgBr>SLEV</ChrgBr>", "", FaultCode::ElementMissing, "CdtTrfTxInf[1]/ChrgBr"),
        (
            "<ChrgBr>SLEV",
            "<InstdAmt Ccy=\"USD\">14.00</InstdAmt><ChrgBr>SLEV",
            FaultCode::CurrencyMixed,
            "InstdAmt",
        ),
        ("<ChrgBr>SLEV", "<XchgRate>7.1</XchgRate><ChrgBr>SLEV", FaultCode::ElementUnsupported, "XchgRate"),
        ("<ChrgBr>SLEV", "<ChrgBr>ALL", FaultCode::ValueCode, "ChrgBr"),
    ];
    for (from, to, code, path) in alone {
        let message = cleared(from, to).expect(to);
        assert_eq!((message.transfers.len(), message.refused.len()), (1, 1), "{to}");
        has(&message.refused[0].faults, code, path);
    }
    let late = CLEARED.replacen("<IntrBkSttlmDt>2026-11-23</IntrBkSttlmDt>", "", 1);
    let message = pacs008::read(late.as_bytes(), terms()).unwrap();
    assert_eq!(message.refused.len(), 2, "no day of settlement anywhere");
}

#[test]
fn every_faulty_transfer_is_refused_however_many_there_are() {
    let transfer = |n: usize| {
        let iban = if n.is_multiple_of(2) { "GB29NWBK60161331926819" } else { "GB30NWBK60161331926819" };
        format!(
            "<CdtTrfTxInf><PmtId><EndToEndId>E{n}</EndToEndId></PmtId><Amt><InstdAmt Ccy=\"CNY\">1</InstdAmt></Amt>\
             <Cdtr><Nm>某</Nm></Cdtr><CdtrAcct><Id><IBAN>{iban}</IBAN></Id></CdtrAcct></CdtTrfTxInf>"
        )
    };
    let (head, rest) = WAGES.split_once("<CdtTrfTxInf>").unwrap();
    let (_, tail) = rest.rsplit_once("</CdtTrfTxInf>").unwrap();
    let document = |count: usize| {
        let transfers: String = (0..count).map(transfer).collect();
        format!("{head}{transfers}{tail}")
            .replace("<NbOfTxs>2<", &format!("<NbOfTxs>{count}<"))
            .replace("8200.50", &count.to_string())
            .replace("8200.5", &count.to_string())
    };
    let message = pain001::read(document(400).as_bytes(), terms()).unwrap();
    let batch = &message.instructions[0];
    assert_eq!((batch.transfers.len(), batch.refused.len()), (200, 200));
    assert!(batch.refused.iter().all(|refused| refused.index % 2 == 1));
    let much = document(dujiang_bank_messages::TRANSFERS_MAX + 1);
    has(&pain001::read(much.as_bytes(), terms()).unwrap_err(), FaultCode::XmlTooLarge, "/Document");
}

fn stamp() -> Stamp {
    Stamp { message_id: "ANSWER-1".into(), created: Moment::china(date(2026, 11, 23).at(9, 0, 0, 0)) }
}

#[test]
fn every_transfer_gets_its_own_outcome() {
    let message = wages("GB29", "GB30").unwrap();
    let report = Report::to_customer(stamp(), &message, |_, _| Outcome {
        reference: Some("posting".into()),
        ..Outcome::plain(Status::Settled)
    });
    let answer = status::read_to_customer(&report.write_to_customer().unwrap()).unwrap();
    assert_eq!(answer, report);
    assert_eq!((answer.status, answer.original.transfers), (Some(Status::Partly), Some(2)));
    let transfers = &answer.instructions[0].transfers;
    assert_eq!(transfers[0].outcome.status, Status::Settled);
    assert_eq!(transfers[0].outcome.reference.as_deref(), Some("posting"));
    assert_eq!(
        (transfers[1].end_to_end_id.as_deref(), transfers[1].outcome.status),
        (Some("W-2"), Status::Rejected)
    );
    let reason = &transfers[1].outcome.reasons[0];
    assert_eq!(reason.code, Some(dujiang_bank_messages::common::Coded::Code("AC01".into())));
    assert!(reason.lines.concat().contains("account.check_digits"), "{reason:?}");
    assert!(!reason.lines.concat().contains("NWBK"), "an account number is not repeated");

    let message = cleared("<ChrgBr>SLEV</ChrgBr>", "").unwrap();
    let report = Report::to_bank(stamp(), &message, |_| Outcome::plain(Status::InProcess));
    let answer = status::read_to_bank(&report.write_to_bank().unwrap()).unwrap();
    assert_eq!(answer, report);
    let told: Vec<_> =
        answer.transfers.iter().map(|t| (t.transaction_id.as_deref(), t.outcome.status)).collect();
    assert_eq!(told, [(Some("T2"), Status::InProcess), (Some("T1"), Status::Rejected)]);
    assert!(report.write_to_customer().is_err());
}

#[test]
fn what_is_refused_whole_is_answered_too() {
    for (document, id) in
        [(WAGES.replace("8200.50", "1"), "WAGES-2026-11"), ("no message".into(), "NOTPROVIDED")]
    {
        let faults = pain001::read(document.as_bytes(), terms()).unwrap_err();
        let original = Original::peek(document.as_bytes(), pain001::NAME);
        assert_eq!(original.message_id, id);
        let report = Report::refusal(stamp(), original, &faults);
        let answer = status::read_to_customer(&report.write_to_customer().unwrap()).unwrap();
        assert_eq!((answer.status, answer == report), (Some(Status::Rejected), true));
    }
}

#[test]
fn personal_data_is_not_printed() {
    let with_id = WAGES.replace(
        "<Nm>王小丫</Nm>",
        "<Nm>王小丫</Nm><Id><PrvtId><Othr><Id>11010519491231002X</Id></Othr></PrvtId></Id>",
    );
    let message = pain001::read(with_id.as_bytes(), terms()).unwrap();
    let printed = format!("{message:?} {:?}", xml::parse(with_id.as_bytes()).unwrap());
    for secret in ["11010519491231002X", "6200010000000025", "GB29NWBK60161331926819"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}

#[test]
fn codes_are_stable_words_and_their_reasons_have_four_characters() {
    let mut texts: Vec<_> = FaultCode::ALL.iter().map(|code| code.as_str()).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), FaultCode::ALL.len());
    assert!(FaultCode::ALL.iter().all(|code| code.reason().len() == 4 && !code.remedy().is_empty()));
}
