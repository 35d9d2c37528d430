//! Names as people give them, for the tests of the detection: each language, its charsets and where they were used.

use super::Origin::{self, Dos, Unix, Unknown};
use super::{Charset, Table};

/// The way back, which only tests need.
pub fn encode(charset: Charset, text: &str) -> Vec<u8> {
    match charset.table {
        Table::Standard(encoding) => {
            let (raw, _, lost) = encoding.encode(text);
            assert!(!lost, "{text} is not all in {charset}");
            raw.into_owned()
        }
        Table::Page(page) => {
            let high =
                |c: char| page.iter().position(|code| u32::from(*code) == u32::from(c)).map(|at| at as u8 + 0x80);
            let byte = |c: char| if c.is_ascii() { Some(c as u8) } else { high(c) };
            text.chars().map(|c| byte(c).unwrap_or_else(|| panic!("{c} of {text} is not in {charset}"))).collect()
        }
    }
}

pub struct Sample {
    pub language: &'static str,
    pub charsets: &'static [(&'static str, Origin)],
    /// Parted by `|`.
    pub names: &'static str,
}

pub const SAMPLES: &[Sample] = &[
    Sample {
        language: "Russian",
        charsets: &[("cp866", Dos), ("windows-1251", Dos), ("windows-1251", Unknown), ("koi8-r", Unix)],
        names: "Новая папка|Документы/Отчёт за март.doc|договор аренды.pdf|Фото 2004|01 - Группа крови.mp3\
            |ЧИТАЙ.TXT|курсовая работа (исправленная).rtf|Музыка|Резюме_Иванов.doc|установка.exe\
            |Лекция 5. Матрицы.ppt|прайс-лист.xls|Руководство пользователя.chm|Мои рисунки/кошка.jpg|Счёт 14.xls\
            |история.txt|Снимок экрана.png|Копия (2) Смета.xls|Дистрибутив Windows|Письмо директору.doc",
    },
    Sample {
        language: "Ukrainian",
        charsets: &[("cp1125", Dos), ("windows-1251", Dos), ("windows-1251", Unknown), ("koi8-u", Unix)],
        names: "Нова папка|Звіт за місяць.doc|Договір оренди.pdf|Фотографії з моря|Моя країна.mp3\
            |Прочитай мене.txt|Курсова робота.rtf|Рахунок-фактура.xls|Інструкція.pdf|Розклад занять.xls\
            |Лекція 3. Історія України.ppt|Українські пісні|Бібліотека|Заява на відпустку.doc|Київ влітку.jpg\
            |Вірші.txt|Завдання для учнів.doc|Підручник з фізики.djvu",
    },
    Sample {
        language: "Greek",
        charsets: &[("cp737", Dos), ("windows-1253", Unknown)],
        names: "Νέος φάκελος|Έγγραφα|Φωτογραφίες 2005|Βιογραφικό σημείωμα.doc|Τιμολόγιο Μαρτίου.xls\
            |Εργασία ιστορίας.doc|Μουσική|Οδηγίες χρήσης.pdf|Σημειώσεις.txt|Πρόγραμμα εκδηλώσεων.doc\
            |Ελληνικά τραγούδια|Καλοκαίρι στην Κρήτη.jpg|Αίτηση εγγραφής.pdf|ΔΙΑΒΑΣΕ ΜΕ.txt|Λίστα πελατών.xls\
            |Αντίγραφο ασφαλείας.zip",
    },
    Sample {
        language: "German",
        charsets: &[("cp437", Dos), ("cp850", Dos), ("windows-1252", Dos), ("windows-1252", Unknown)],
        names: "Übersicht.xls|Fotos für Oma|Änderungen.txt|Prüfung Mathe.pdf|Straßenkarte.jpg|Rechnung März.doc\
            |Größentabelle.xls|Lösungen Blatt 3.pdf|Bücherliste.txt|Grüße aus Köln.jpg|Vertrag über Möbel.doc\
            |Universität|schöne Bilder|Kündigung.doc|Präsentation.ppt|Gebührenordnung.pdf\
            |Die Ärzte - Schrei nach Liebe.mp3|Entwürfe|Müller GmbH.doc",
    },
    Sample {
        language: "French",
        charsets: &[("cp437", Dos), ("cp850", Dos), ("windows-1252", Dos), ("windows-1252", Unknown)],
        names: "Été 2003|Téléchargements|Présentation.ppt|Lettre de résiliation.doc|Mémoire définitif.doc\
            |Numéros de téléphone.xls|Forêt et rivière.jpg|Leçon 4.pdf|Ça va bien.mp3|Modèle de contrat.rtf\
            |Données|Résumé français.txt|Notre maison à Nîmes.jpg|Bibliothèque|Règlement intérieur.pdf\
            |Photos du château|Comptes de février.xls|Célébration de Noël.avi|Où es-tu.mp3",
    },
    Sample {
        language: "Spanish",
        charsets: &[("cp850", Dos), ("windows-1252", Dos), ("windows-1252", Unknown)],
        names: "Fotografías|Año nuevo.jpg|Contraseñas.txt|Presentación.ppt|Canción de cuna.mp3\
            |Información general.doc|Señales de tráfico.pdf|Matemáticas II.pdf|Capítulo 1.doc|Música clásica\
            |Currículum José.doc|Imágenes|Facturación 2006.xls|Versión final.zip|El niño y el mar.txt\
            |Código fuente|Cómo llegar.jpg|Educación física.ppt|Página de inicio.html",
    },
    Sample {
        language: "Portuguese",
        charsets: &[("cp850", Dos), ("windows-1252", Unknown)],
        names: "Relatório de gestão.doc|Músicas|Fotos da formatura - São Paulo.jpg|Currículo João.doc\
            |Orçamento março.xls|Canção.mp3|Instruções.txt|Avaliação final.pdf|Não apagar|Configurações\
            |Dicionário português.txt|Página inicial.htm|Férias de verão|Licitação.pdf|Você e eu.mp3\
            |Versão antiga|Cópia de segurança.zip|Lição 7.ppt",
    },
    Sample {
        language: "Swedish",
        charsets: &[("cp850", Dos), ("windows-1252", Unknown)],
        names: "Räkningar|Läs mig först.txt|Hösten på ön.jpg|Försäljning.xls|Ny mapp (två)|Årsredovisning.pdf\
            |Körkort.doc|Svår övning.pdf|Bröllopsbilder|Kära mamma.doc|Översättning.txt|Låtar från åttiotalet\
            |Mötesprotokoll.doc|Färg och form.ppt|Hållbarhet.xls|Göteborg.jpg",
    },
    Sample {
        language: "Polish",
        charsets: &[("cp852", Dos), ("windows-1250", Dos), ("windows-1250", Unknown)],
        names: "Zdjęcia z wakacji|Życiorys.doc|Książki|Umowa najmu - załącznik.pdf|Łódź nocą.jpg\
            |Sprawozdanie końcowe.doc|Święta u babci.avi|Ćwiczenia.pdf|Muzyka żeglarska|Źródła.txt\
            |Wyjaśnienie błędów.doc|Dokumenty księgowe|Hasła.txt|Prośba o urlop.rtf\
            |Piosenki dla dzieci - Wróć.mp3|Wykład 3 - całki.ppt|Nowy folder główny|Częste pytania.html\
            |Kraków i Gdańsk|Opłaty.xls",
    },
    Sample {
        language: "Czech",
        charsets: &[("cp852", Dos), ("windows-1250", Unknown)],
        names: "Nová složka|Fotky z dovolené v Řecku|Životopis.doc|Příloha č. 2.pdf|Hudba naší mladosti.mp3\
            |Účetní závěrka.xls|Vánoční přání.jpg|Čtěte.txt|Přednáška z fyziky.ppt|Žádost o příspěvek.doc\
            |Česká republika|Školní výlet.avi|Ceník služeb.xls|Důležité|Smlouva o půjčce.pdf|Návod k použití.pdf\
            |Kočka a myš.jpg|Seznam knih na červen.txt|Měření",
    },
    Sample {
        language: "Hungarian",
        charsets: &[("cp852", Dos), ("windows-1250", Unknown)],
        names: "Új mappa|Önéletrajz.doc|Fényképek|Szerződés módosítás.pdf|Nyári szünidő.jpg|Zenék és hangoskönyvek\
            |Számla - október.xls|Olvass el először.txt|Műszaki leírás.doc|Budapesti képeslapok|Jegyzőkönyv.rtf\
            |Gyűjtemény|Házi feladat.doc|Ügyfelek listája.xls|Történelem érettségi.pdf|Esküvő.avi\
            |Használati útmutató.pdf",
    },
    Sample {
        language: "Japanese",
        charsets: &[("shift_jis", Dos), ("shift_jis", Unknown), ("euc-jp", Unix)],
        names: "新しいフォルダ|はじめにお読みください.txt|議事録_0401.doc|写真/京都旅行.jpg|見積書（改訂版）.xls\
            |ソースコード|説明書.pdf|表紙.psd|第1章 始まりの朝.mp3|履歴書_山田太郎.doc|ゲームの攻略メモ.txt\
            |請求書|データベース設計.xls|インストール手順.html|年賀状2005.jpg|能力一覧表.csv|歌詞カード.bmp\
            |コピー ～ 企画書.ppt|卒業論文|サンプル画像",
    },
    Sample {
        language: "Simplified Chinese",
        charsets: &[("gb18030", Dos), ("gb18030", Unknown)],
        names: "新建文件夹|使用说明.txt|课程设计报告.doc|照片/北京之行.jpg|合同（最终版）.pdf|周杰伦 - 东风破.mp3\
            |安装前必读.txt|源代码|数据库结构.xls|毕业论文初稿.doc|第一章 绪论.ppt|简历模板.doc|价格表2006.xls\
            |系统需求分析|电影下载地址.url|通讯录.xls|高等数学答案.pdf|我的音乐|会议记录.doc|注册码.txt",
    },
    Sample {
        language: "Traditional Chinese",
        charsets: &[("big5", Dos), ("big5", Unknown)],
        names: "新資料夾|使用說明.txt|期末報告.doc|照片/日月潭之旅.jpg|合約書（修訂版）.pdf|張惠妹 - 聽海.mp3\
            |安裝步驟.txt|程式碼|會員名單.xls|畢業論文初稿.doc|第一章 緒論.ppt|履歷表.doc|報價單2006.xls\
            |功能需求分析|電影下載網址.url|通訊錄.xls|高等數學解答.pdf|我的音樂|會議紀錄.doc|產品許可證.txt",
    },
    Sample {
        language: "Korean",
        charsets: &[("euc-kr", Dos), ("euc-kr", Unknown)],
        names: "새 폴더|읽어보세요.txt|보고서 최종본.hwp|사진/제주도 여행.jpg|이력서_김철수.doc|사용 설명서.pdf\
            |견적서.xls|소스 코드|회의록 3월.hwp|영어 단어장.xls|동영상 강의 1강.avi|졸업논문 초안.doc\
            |노래방 인기곡.mp3|바탕 화면|설치 방법.txt|주소록|한글과 컴퓨터|우리 가족.jpg|시험 문제와 답.hwp\
            |발표 자료.ppt",
    },
];
