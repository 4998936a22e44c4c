//! Everyday words of many languages in the code pages of their countries: how many archives are read right, how many
//! are refused, and that none is read wrong.

use super::*;
use crate::rng::Rng;

/// Words, and the code pages in which archives have them.
const CORPUS: [(&str, &[&str], &str); 25] = [
    (
        "German",
        &["CP437", "CP850", "CP852", "windows-1252"],
        "mäuse Vögel Kühe Bär Löwe Käfer Hündin Größe Straße Äpfel Öl Frösche Eichhörnchen Schildkröte München Köln \
         Düsseldorf Zürich Gänse Hühner Möwe Kröte Fußball Tür Schlüssel Brötchen Müll Bäume Kürbis Möhre Übung",
    ),
    (
        "French",
        &["CP437", "CP850", "windows-1252"],
        "éléphant chèvre âne guêpe hérisson zèbre forêt château fenêtre pêche poêle garçon maïs Besançon Orléans \
         Nîmes lézard pélican étoile règle crème théière vélo téléphone canapé bébé tête fête bête arrêt hôtel flûte",
    ),
    (
        "Spanish",
        &["CP437", "CP850", "windows-1252"],
        "año niño araña tiburón león ratón pingüino águila murciélago piña plátano limón melón camión avión cigüeña \
         Málaga Cádiz León Córdoba semáforo árbol lápiz sillón jirafa_bebé muñeca montaña ñandú búho delfín",
    ),
    (
        "Portuguese",
        &["CP850", "windows-1252"],
        "leão cão pássaro maçã limão avião coração tubarão pêssego irmão mamão melão pão São caminhões ônibus \
         maracujá café açúcar feijão algodão pião balão escorpião",
    ),
    (
        "Swedish",
        &["CP437", "CP850", "windows-1252"],
        "älg björn får räv gås häst fågel Malmö Göteborg å ö näbb kråka",
    ),
    (
        "Danish",
        &["CP850", "windows-1252"],
        "ræv bjørn kølle får smørrebrød København Ålborg køter måge bæver æble hønse",
    ),
    (
        "Finnish",
        &["CP437", "CP850", "windows-1252"],
        "hämähäkki pöllö mäyrä jänis hyönteinen kärpänen Jyväskylä sää yö",
    ),
    (
        "Polish",
        &["CP852", "windows-1250"],
        "żółw łoś słoń wąż jeż gęś jaskółka dzięcioł niedźwiedź świnia źrebię ćma jabłko Łódź Kraków Gdańsk Wrocław \
         śliwka gruszka_duża pszczoła żyrafa gołąb łódka rośliny zając królik wróbel ryś żaba",
    ),
    (
        "Czech",
        &["CP852", "windows-1250"],
        "kůň kočka medvěd ježek žába člověk řeka šnek myš býk želva Plzeň Třebíč slůně hřebec růže dům květina tygr_malý \
         čáp káně žralok štika čtyřlístek kuře houště vůz",
    ),
    (
        "Hungarian",
        &["CP852", "windows-1250"],
        "ló őz tücsök béka nyúl gólya hörcsög sün Győr Pécs körte szőlő zsiráf tőkehal",
    ),
    (
        "Croatian",
        &["CP852", "windows-1250"],
        "mačka miš žaba zečić šišmiš ždrijebe čaplja guščica mravojež đak kuća",
    ),
    (
        "Turkish",
        &["CP857", "windows-1254"],
        "kuş köpek eşek ağaç balık çilek İstanbul Eskişehir üzüm sığır kız çiçek güneş",
    ),
    (
        "Estonian",
        &["CP775", "windows-1257"],
        "õun lõvi põder öökull jänes tüdruk šokolaad jõgi mäger kärbes sõber",
    ),
    (
        "Latvian",
        &["CP775", "windows-1257"],
        "kaķis lācis zaķis ābols bērzs ezītis čūska ķirsis žurka līdaka mājas",
    ),
    (
        "Russian",
        &["CP866", "windows-1251", "KOI8-U"],
        "кошка собака медведь лиса заяц мышь Лось рысь ёж птица Москва Санкт-Петербург Казань яблоко груша автомобиль \
         Самолёт дерево цветок вода огонь КОТ ДОМ Слон лев тигр волк рыба агентство взгляд суть Йошкар-Ола кошки Собаки",
    ),
    (
        "Ukrainian",
        &["CP866", "windows-1251", "KOI8-U"],
        "кіт собака ведмідь їжак лисиця Київ Львів заєць миша кінь Ґудзик яблуко",
    ),
    (
        "Serbian",
        &["CP855", "windows-1251"],
        "мачка пас коњ медвед Београд љубичица ђак кућа жаба миш птица прст Нови",
    ),
    (
        "Greek",
        &["CP737", "windows-1253"],
        "γάτα σκύλος άλογο πουλί λύκος Αθήνα ψάρι αρκούδα λαγός ΓΑΤΑ ΣΚΥΛΟΣ δέντρο μήλο Θεσσαλονίκη",
    ),
    ("Hebrew", &["CP862", "windows-1255"], "חתול כלב סוס ציפור דג פיל אריה ארנב עץ תפוח נמר דוב"),
    ("Arabic", &["CP720", "windows-1256"], "قطة كلب حصان طائر سمكة أسد فيل نمر شجرة تفاح دب أرنب"),
    ("Thai", &["windows-874"], "แมว สุนัข ม้า นก ปลา ช้าง เสือ ลิง ต้นไม้ บ้าน รถยนต์ กล้วย"),
    (
        "Japanese",
        &["Shift_JIS", "EUC-JP"],
        "猫 犬 馬 鳥 魚 象 ネコ イヌ うどん そば ラーメン ソース ソバ 東京 大阪 表 能力 桜 人 車 自転車 信号機 カタツムリ 十字 \
         りんご バナナ みかん 花 山 川 海 空 木 森 飛行機 電車 学校 病院 公園 ひよこ ウサギ 亀 蛇 猿 鹿 熊 虎 紙 姿",
    ),
    (
        "Chinese, simplified",
        &["GBK"],
        "猫 狗 马 鸟 鱼 大象 老虎 狮子 苹果 香蕉 汽车 飞机 北京 上海 熊猫 兔子 鹦鹉 长颈鹿 向日葵 玫瑰 牛 羊 猪 鸡 鸭 花 树 山 水 火 \
         自行车 火车 船 桌子 椅子 杯子 手机 电脑 红绿灯 行人 训练 测试 正常 异常",
    ),
    (
        "Chinese, traditional",
        &["Big5"],
        "貓 狗 馬 鳥 魚 大象 老虎 獅子 蘋果 香蕉 汽車 飛機 臺北 高雄 熊貓 兔子 功能 牛 羊 豬 雞 鴨 花 樹 山 水 火 腳踏車 火車 船 桌子 \
         椅子 杯子 手機 電腦 紅綠燈 行人 訓練 測試 正常 異常 許蓋功",
    ),
    (
        "Korean",
        &["EUC-KR"],
        "고양이 개 말 새 물고기 코끼리 호랑이 사자 사과 바나나 자동차 비행기 서울 부산 토끼 소 양 돼지 닭 오리 꽃 나무 산 물 불 자전거 기차 배 \
         책상 의자 컵 휴대폰 신호등 보행자 훈련 시험 정상 비정상",
    ),
];

/// Words that the rules were not made with: signs, food, colours, moods, professions, streets.
const UNSEEN: [(&str, &[&str], &str); 21] = [
    (
        "German",
        &["CP437", "CP850", "windows-1252"],
        "Rührei Käse Nüsse Gemüse Gewürz grün weiß schwarz_weiß fröhlich wütend traurig_böse Ärztin Bäcker Gärtner Fährmann          Brücke Höhle Küste Wüste Gebäude Hütte Scheune_groß Kreuzung_gefährlich Vorfahrtstraße Fußgänger für_Ödland",
    ),
    (
        "French",
        &["CP850", "windows-1252"],
        "crêpe gâteau légumes épinards rôti pâtes blé châtaigne orangé fâché étonné dégoût médecin mécanicien boulangère          église musée école mât île forêt_mêlée sécurité défaut brûlure rayé cassé à_jeter où",
    ),
    (
        "Spanish",
        &["CP850", "windows-1252"],
        "paella_común jamón salchichón champiñón azúcar café té marrón añil enfadado_así médico_niña albañil policía          estación jardín montañas bahía océano señal camión_pequeño peatón ciclón dañado óxido",
    ),
    (
        "Polish",
        &["CP852", "windows-1250"],
        "chleb_żytni mąka śmietana miód cebulka pierożki żółty różowy błękitny szczęśliwy zły piekarz_młody nauczyciel_średni          most_długi góra jezioro_małe ulica_główna światła pieszy_na_drodze uszkodzony_lekko pęknięty rdzą",
    ),
    (
        "Czech",
        &["CP852", "windows-1250"],
        "chléb sýr mléko cukrář žlutý červený zelený_světlý šťastný smutný_člověk učitel lékař pekař město ulice_hlavní          křižovatka přechod značka_stůj poškozený prasklý dřevo sklo_bílé kůra",
    ),
    (
        "Hungarian",
        &["CP852", "windows-1250"],
        "kenyér túró tejföl paprika_csípős fűszer zöld fehér_bőr boldog szomorú dühös orvos tanító pék híd út hegység          folyó tó erdő közlekedési tábla törött rozsdás",
    ),
    (
        "Turkish",
        &["CP857", "windows-1254"],
        "ekmek süt peynir_çeşit yeşil kırmızı mutlu üzgün öğretmen köprü dağ göl ışık yaya_geçidi kırık paslı",
    ),
    (
        "Swedish",
        &["CP850", "windows-1252"],
        "smör_bröd ägg kött grön röd glad_ångest lärare läkare väg sjö å_mynning skog övergång rött_ljus trasig_låda",
    ),
    (
        "Russian",
        &["CP866", "windows-1251", "KOI8-U"],
        "хлеб молоко сыр яйцо мясо овощи красный зелёный жёлтый радость грусть злость врач учитель пекарь мост гора озеро улица          пешеход светофор перекрёсток трещина ржавчина норма брак Класс_А Обучение тест Машина ГРУЗОВИК Подъезд съёмка КрасныйДом СинийШар ПДД КПП IMG_кот_1",
    ),
    (
        "Bulgarian",
        &["windows-1251", "CP866"],
        "хляб мляко сирене ябълка зелен червен щастлив тъжен лекар учител път мост планина езеро въглен ъгъл",
    ),
    (
        "Ukrainian",
        &["windows-1251", "KOI8-U"],
        "хліб молоко сир яйце м'ясо овочі червоний зелений жовтий радість сум лікар вчитель міст гора озеро вулиця пішохід тріщина",
    ),
    (
        "Greek",
        &["CP737", "windows-1253"],
        "ψωμί γάλα τυρί αυγό κρέας πράσινο κόκκινο χαρά λύπη γιατρός δάσκαλος γέφυρα βουνό λίμνη δρόμος πεζός φανάρι",
    ),
    (
        "Hebrew",
        &["CP862", "windows-1255"],
        "לחם חלב גבינה ביצה בשר ירוק אדום שמח עצוב רופא מורה גשר הר אגם רחוב רמזור סדק",
    ),
    (
        "Arabic",
        &["CP720", "windows-1256"],
        "خبز حليب جبن بيض لحم أخضر أحمر سعيد حزين طبيب معلم جسر جبل بحيرة شارع مشاة شرخ",
    ),
    (
        "Thai",
        &["windows-874"],
        "ขนมปัง นม ไข่ เนื้อ ผัก สีเขียว สีแดง ดีใจ เสียใจ หมอ ครู สะพาน ภูเขา ทะเลสาบ ถนน ไฟแดง รอยร้าว ปกติ",
    ),
    (
        "Japanese",
        &["Shift_JIS", "EUC-JP"],
        "パン 牛乳 チーズ 卵 肉 野菜 赤 青 緑 黄色 喜び 怒り 悲しみ 医者 先生 橋 湖 道路 歩行者 踏切 ひび割れ さび 良品 不良品 学習 検証 ラベル          クラスA カメラ1 その他 未分類 たんぽぽ ひまわり バラ 白菜 にんじん Tシャツ A型 犬dog 髙橋 麒麟 ﾈｺ",
    ),
    (
        "Chinese, simplified",
        &["GBK"],
        "面包 牛奶 奶酪 鸡蛋 肉 蔬菜 红色 绿色 蓝色 高兴 生气 悲伤 医生 老师 桥 湖 道路 斑马线 裂纹 划痕 锈蚀 合格 不合格 训练集 验证集 类别          其他 未分类 菊花 蒲公英 郁金香 白菜 胡萝卜 可回收物 厨余垃圾 有害垃圾 口罩 A类 T恤 dog狗 蜻蜓 蟋蟀",
    ),
    (
        "Chinese, traditional",
        &["Big5"],
        "麵包 牛奶 起司 雞蛋 肉 蔬菜 紅色 綠色 藍色 高興 生氣 悲傷 醫生 老師 橋 湖 道路 斑馬線 裂紋 刮痕 合格 不合格 訓練集 驗證集 類別 其他 未分類 菊花 蒲公英 鬱金香 白菜 口罩",
    ),
    (
        "Korean",
        &["EUC-KR"],
        "빵 우유 치즈 달걀 고기 채소 빨강 파랑 초록 기쁨 분노 슬픔 의사 선생님 다리 호수 도로 횡단보도 균열 녹 합격 불합격 학습 검증 분류 기타 미분류          국화 민들레 튤립 배추 당근 재활용 마스크",
    ),
    (
        "Portuguese",
        &["CP850", "windows-1252"],
        "pão leite queijo_são ovo_inteiro carne_não_cozida feijões verde_água alegria tristeza médico ponte montanha lagoa estação peão fissura_não botão manhã",
    ),
    (
        "Danish",
        &["CP850", "windows-1252"],
        "brød mælk ost æg kød grøntsager rød grøn glæde sorg læge lærer bro sø vej fodgænger lyskryds revne_på",
    ),
];

fn encoded(page: &CodePage, text: &str) -> Vec<u8> {
    page.bytes_of(text).unwrap_or_else(|| panic!("{text} in {}", page.name))
}

fn page(name: &str) -> &'static CodePage {
    CODE_PAGES.iter().find(|page| page.name == name).expect("a code page of the table")
}

/// What becomes of an archive with these names: its texts, or why not.
fn read_all(names: &[Vec<u8>]) -> Result<Vec<String>, String> {
    let raw: Vec<RawName> = names.iter().map(|raw| RawName { raw, flags: 0, extra: &[] }).collect();
    let names = read(&raw);
    match names.undecided {
        Some(why) => Err(why),
        None => Ok(names.texts.into_iter().map(|text| text.expect("all are decided")).collect()),
    }
}

#[test]
fn no_archive_of_everyday_words_is_read_wrong() {
    let mut rng = Rng::new(9);
    let mut table = String::new();
    let mut wrong = Vec::new();
    let (mut right_of_eight, mut all_of_eight) = (0, 0);
    for (language, pages, words) in CORPUS.iter().chain(&UNSEEN) {
        for &name in *pages {
            let page = page(name);
            // Some countries write words that their code page lacks.
            let words: Vec<&str> =
                words.split_whitespace().filter(|word| page.bytes_of(word).is_some()).collect();
            table += &format!("{language:22}{name:14}");
            for size in [1, 2, 4, 8, 16] {
                let (mut right, mut refused) = (0, 0);
                let rounds = if size == 1 { words.len() } else { 50 };
                for round in 0..rounds {
                    let mut word = || match size {
                        1 => words[round],
                        _ => words[rng.below(words.len() as u64) as usize],
                    };
                    let names: Vec<String> = (0..size).map(|_| format!("{}/1.png", word())).collect();
                    let raw: Vec<Vec<u8>> = names.iter().map(|name| encoded(page, name)).collect();
                    match read_all(&raw) {
                        Ok(texts) if texts == names => right += 1,
                        Ok(texts) => wrong.push(format!("{language} in {name}: {names:?} as {texts:?}")),
                        Err(_) => refused += 1,
                    }
                }
                if size == 8 {
                    (right_of_eight, all_of_eight) = (right_of_eight + right, all_of_eight + rounds);
                }
                table += &format!("  {size}: {:3} %, {:3} %", 100 * right / rounds, 100 * refused / rounds);
            }
            table += "\n";
        }
    }
    println!("classes: right, refused\n{table}of eight classes: {right_of_eight} of {all_of_eight}");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
    assert!(right_of_eight * 100 >= all_of_eight * 80, "{right_of_eight} of {all_of_eight}");
}

#[test]
fn code_pages_are_whole() {
    for page in &CODE_PAGES {
        assert_eq!(page.text(b"cats/1.png").as_deref(), Some("cats/1.png"), "{}", page.name);
        for byte in 128..=255u8 {
            let text = page.text(&[byte]);
            assert!(text.is_none_or(|text| text.chars().count() == 1), "{} {byte}", page.name);
        }
    }
    let all: Vec<u8> = (0..=255).collect();
    let text = code_pages::appnote(&all);
    assert_eq!(text.chars().collect::<HashSet<char>>().len(), 256, "no two bytes are one character");
}

#[test]
fn western_names_without_a_flag_are_what_they_were() {
    for (raw, text) in [
        (&b"m\x84use/1.png"[..], "mäuse/1.png"),
        (b"ni\xa4o/1.png", "niño/1.png"),
        (b"caf\x82/\x84pfel.png", "café/äpfel.png"),
    ] {
        assert_eq!(read_all(&[raw.to_vec()]).as_deref(), Ok([text.to_owned()].as_slice()));
    }
    // What is UTF-8 stays so beside a code page.
    let names = ["été/1.png".as_bytes().to_vec(), b"m\x84use/1.png".to_vec()];
    assert_eq!(read_all(&names).unwrap(), ["été/1.png", "mäuse/1.png"]);
    for utf8 in ["猫/1.png", "кот/1.png", "cafe\u{301}/1.png", "a\u{1f600}/1.png"] {
        assert_eq!(read_all(&[utf8.as_bytes().to_vec()]).unwrap(), [utf8], "{utf8}");
    }
}

#[test]
fn refusals_show_the_readings() {
    let why = read_all(&[b"\xc3\xa8/1.png".to_vec()]).unwrap_err();
    assert!(why.contains("\"猫/1.png\" in GBK") && why.contains("in Big5"), "{why}");
    let why = read_all(&[b"\x9d\xb1\xff/1.png".to_vec()]).unwrap_err();
    assert!(why.contains("make no sense in any code page"), "{why}");
}

/// Whatever bytes names are of, each gets a text or all that have none get one reason.
#[test]
fn noise_is_read_or_refused() {
    let mut rng = Rng::new(3);
    for _ in 0..500 {
        let names: Vec<Vec<u8>> = (0..1 + rng.below(4))
            .map(|_| (0..1 + rng.below(9)).map(|_| rng.next_u64() as u8).collect())
            .collect();
        match read_all(&names) {
            Ok(texts) => assert_eq!(texts.len(), names.len()),
            Err(why) => {
                assert!(!why.is_empty() && why.len() < 2000 && !why.chars().any(char::is_control), "{why:?}")
            }
        }
    }
}

#[test]
fn messages_show_names_short_and_printable() {
    assert_eq!(shown("a\n\u{202e}b"), "a\\n\\u{202e}b");
    assert_eq!(shown(&"ä".repeat(100)), "ä".repeat(80) + "...");
}
