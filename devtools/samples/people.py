"""Generates people: names of many countries, each with an e-mail address in a reserved domain."""

from __future__ import annotations

import unicodedata
from typing import Final, NamedTuple

# "name=latin" gives the Latin spelling for other scripts and for letters that do not decompose.
CULTURES: Final[dict[str, tuple[str, str]]] = {
    "fr": (
        (
            "Camille Léa Chloé Manon Inès Zoé Hugo Louis Jules Théo Gabriel Étienne Maxime Aurélie Benoît Céline "
            "Noémie Anaïs"
        ),
        (
            "Martin Bernard Dubois Lefèvre Moreau Girard Fontaine Chevalier Roux Mercier Lambert Faure Rousseau "
            "Gauthier Perrin"
        ),
    ),
    "en": (
        (
            "Olivia Amelia Grace Charlotte Harriet Imogen George Arthur Oliver Thomas Edward Samuel Eleanor Rosie "
            "Callum Megan"
        ),
        (
            "Wright Hughes Bennett Palmer Whitfield Hargreaves Ashworth Doyle O'Connor Fletcher Marsh Pemberton Lowe "
            "Sinclair"
        ),
    ),
    "us": (
        (
            "Madison Harper Savannah Brooklyn Ethan Mason Tyler Jordan Caleb Naomi Isaiah Destiny Logan Wyatt Jasmine "
            "Marcus"
        ),
        (
            "Johnson Carter Ramirez Washington Brooks Sullivan Coleman Jenkins Hayes Whitaker Nguyen Patterson Greene "
            "Delgado"
        ),
    ),
    "de": (
        (
            "Anna Lena Marlene Johanna Katharina Jürgen Björn Matthias Felix Jonas Sebastian Günther Frieda Hannelore "
            "Tobias Ute"
        ),
        (
            "Schmidt Müller Fischer Weber Hoffmann Schäfer Köhler Krüger Brandt Vogel Weiß=weiss Lindner Böhm Engel "
            "Zimmermann"
        ),
    ),
    "es": (
        "Lucía Carmen Sofía Martina Álvaro Diego Javier Íñigo Pilar Rocío Mateo Ximena Andrés Nuria Gonzalo Begoña",
        "García Fernández López Muñoz Ibáñez Navarro Ortega Peña Castillo Vázquez Romero Aguilar Núñez Herrera Cordero",
    ),
    "pt": (
        (
            "Beatriz Mariana Inês Leonor João Tiago Gonçalo Rafael Thaís Luana Caio Otávio Conceição Renato Fátima "
            "Vinícius"
        ),
        (
            "Silva Santos Oliveira Carvalho Araújo Magalhães Teixeira Gonçalves Ribeiro Assunção Batista Figueiredo "
            "Nogueira"
        ),
    ),
    "it": (
        "Giulia Chiara Francesca Alessia Lorenzo Matteo Niccolò Davide Federica Elisa Riccardo Simone Ludovica Pietro",
        "Rossi Ferrari Esposito Bianchi Romano Ricci Marino Greco Conti Mancini Lombardi Barbieri Santoro Caruso",
    ),
    "pl": (
        (
            "Agnieszka Zofia Małgorzata=malgorzata Katarzyna Paweł=pawel Łukasz=lukasz Jakub Wojciech Ewa Bożena "
            "Grzegorz Iwona"
        ),
        "Kowalski Wiśniewska Wójcik Zieliński Szymański Dąbrowska Kozłowski=kozlowski Jankowska Mazur Krawczyk Nowak",
    ),
    "nordic": (
        "Astrid Freja Ingrid Sigrid Linnea Søren=soren Bjørn=bjorn Lars Håkon Elin Åsa Mikkel Jökull Aino Väinö Eero",
        (
            "Hansen Johansson Lindqvist Nygård Sørensen=sorensen Bergström Virtanen Korhonen Dahl Ekström Jónsdóttir "
            "Møller=moller"
        ),
    ),
    "west_africa": (
        (
            "Amina Fatou Aïssatou Ngozi Chidinma Kwame Kofi Ama Ousmane Mamadou Adaeze Emeka Oluwaseun Yetunde "
            "Ibrahima Awa"
        ),
        "Diallo Traoré Ndiaye Mensah Okafor Adeyemi Okonkwo Boateng Koné Sarr Owusu Balogun Cissé Nwosu Touré",
    ),
    "maghreb": (
        "Yasmine Salma Nour Karim Mehdi Rachid Leïla Samira Anis Hicham Khadija Zineb Tarek Sofiane Imane Walid",
        "Benali Haddad Bouzid Cherif Mansouri El-Amrani Belkacem Ziani Tazi Khelifi Brahimi Saïdi Bennani Ouali",
    ),
    "arabic": (
        "ليلى=layla مريم=maryam سلمى=salma يوسف=youssef عمر=omar كريم=karim هدى=huda طارق=tariq زينب=zaynab سامي=sami",
        "حداد=haddad خوري=khoury منصور=mansour الأحمد=alahmad سليمان=suleiman نجار=najjar درويش=darwish عباس=abbas",
    ),
    "india": (
        "Aarav Ananya Priya Rohan Kavya Ishaan Meera Arjun Divya Sanjay Lakshmi Vikram Neha Aditi Harpreet Farhan",
        "Sharma Patel Iyer Reddy Chatterjee Kapoor Nair Banerjee Desai Singh Mukherjee Rao Joshi Menon Khan Gupta",
    ),
    "japan": (
        (
            "陽菜=hina 結衣=yui 大翔=hiroto 蓮=ren 葵=aoi 健太=kenta さくら=sakura 美咲=misaki 悠真=yuma 直樹=naoki "
            "花子=hanako 翔太=shota"
        ),
        (
            "佐藤=sato 鈴木=suzuki 高橋=takahashi 田中=tanaka 渡辺=watanabe 伊藤=ito 山本=yamamoto 中村=nakamura "
            "小林=kobayashi"
        ),
    ),
    "china": (
        "芳=fang 伟=wei 娜=na 静=jing 敏=min 磊=lei 洋=yang 艳=yan 杰=jie 思远=siyuan 雨桐=yutong 子涵=zihan",
        "王=wang 李=li 张=zhang 刘=liu 陈=chen 杨=yang 赵=zhao 黄=huang 周=zhou 吴=wu 徐=xu 孙=sun",
    ),
    "korea": (
        (
            "서연=seoyeon 민준=minjun 지우=jiwoo 하윤=hayoon 도윤=doyun 예은=yeeun 시우=siwoo 수빈=subin 지호=jiho "
            "은지=eunji"
        ),
        "김=kim 이=lee 박=park 최=choi 정=jung 강=kang 조=cho 윤=yoon 장=jang 임=lim",
    ),
    "cyrillic": (
        "Олена=olena Марія=mariia Андрій=andrii Тарас=taras Наталія=nataliia Богдан=bohdan Ірина=iryna Дмитро=dmytro",
        (
            "Шевченко=shevchenko Коваленко=kovalenko Бондаренко=bondarenko Ткаченко=tkachenko Мельник=melnyk "
            "Кравчук=kravchuk"
        ),
    ),
    "greek": (
        (
            "Ελένη=eleni Μαρία=maria Γιώργος=giorgos Νίκος=nikos Κατερίνα=katerina Δημήτρης=dimitris Σοφία=sofia "
            "Γιάννης=giannis"
        ),
        "Παπαδόπουλος=papadopoulos Οικονόμου=oikonomou Νικολάου=nikolaou Γεωργίου=georgiou Αλεξίου=alexiou Δήμου=dimou",
    ),
    "vietnam": (
        "Linh Hương Thảo Minh Quân Tuấn Ngọc Lan Phương Hải Khánh Trang",
        "Nguyễn Trần Lê Phạm Hoàng Vũ Đặng=dang Bùi Đỗ=do Hồ",
    ),
    "east_africa": (
        "Wanjiru Achieng Makena Tesfaye Selam Juma Baraka Zawadi Neema Dawit Hana Kamau",
        "Mwangi Otieno Kimani Abebe Tadesse Njoroge Wambui Bekele Ochieng Mutua Haile Kiptoo",
    ),
}

# Domains that RFC 2606 reserves, so that mail reaches nobody.
DOMAINS: Final = (
    "example.org", "example.com", "example.net", "atelier-nord.example", "lumen.example.org", "bluefern.example",
    "harbour.example.com", "cedar-clinic.example", "openfield.example.org", "maison-verte.example", "quill.example.net",
    "northwind-school.example", "tidal.example.com", "papier.example", "kestrel.example.org", "solstice.example",
    "brightwater.example.net", "association-du-lac.example", "fjord.example.com", "mango.example.org",
    "orchard.example",
    "studio-k.example.net", "granite.example.com", "civic.example.org",
)  # fmt: skip


class Person(NamedTuple):
    first_name: str
    last_name: str
    email: str


class _Name(NamedTuple):
    shown: str
    latin: str


def _names(words: str) -> list[_Name]:
    pairs = (word.partition("=") for word in words.split())
    return [_Name(shown, latin or _latin(shown)) for shown, _, latin in pairs]


def _latin(name: str) -> str:
    """Convert a name to the letters of an e-mail address: "O'Connor" -> "oconnor", "Bergström" -> "bergstrom"."""
    plain = unicodedata.normalize("NFKD", name.lower()).encode("ascii", "ignore").decode()
    return "".join(char for char in plain if char.isalnum() or char == "-")


def _pairs(*cultures: str) -> list[tuple[_Name, _Name]]:
    """First and last names of the same culture, without duplicates in Latin letters."""
    pairs = {
        (first.latin, last.latin): (first, last)
        for culture in cultures
        for first in _names(CULTURES[culture][0])
        for last in _names(CULTURES[culture][1])
    }
    return list(pairs.values())


_EVERYBODY: Final = _pairs(*CULTURES)
_FRENCH_SPEAKING: Final = _pairs("fr", "maghreb", "west_africa", "pt")
_STRIDE: Final = 7_368_787  # a prime: neighbours differ, and all pairs occur before one repeats


def person(number: int, seed: int = 0) -> Person:
    """The person with this number.

    E-mail addresses are unique: all combinations of name and domain occur once, then again with a number. A seed
    other than 0 is part of the address, so that the records of two seeds fit into one database.
    """
    combinations = len(_EVERYBODY) * len(DOMAINS)
    turn, place = divmod(number, combinations)
    pair, domain = divmod((place * _STRIDE + seed * 104_729) % combinations, len(DOMAINS))
    first, last = _EVERYBODY[pair]
    mark = (str(turn) if turn else "") + (f"-s{seed}" if seed else "")
    return Person(first.shown, last.shown, f"{first.latin}.{last.latin}{mark}@{DOMAINS[domain]}")


def respondent(draw: int, *, french: bool = False) -> Person:
    """A respondent of a form: not unique, and usually French-speaking on a French form."""
    pairs = _FRENCH_SPEAKING if french and draw % 10 else _EVERYBODY
    first, last = pairs[draw * _STRIDE % len(pairs)]
    return Person(first.shown, last.shown, f"{first.latin}.{last.latin}@{DOMAINS[draw * 31 % len(DOMAINS)]}")
