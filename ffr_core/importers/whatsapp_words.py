"""What WhatsApp writes in its exports besides people's words, in the languages of its users.

A phrase that is missing here is never lost: the line stays a turn with that phrase as its text.
"""

from __future__ import annotations

import re

TITLE = re.compile(
    r"^(whatsapp[ -]chat (with|mit|con|met|-)|chat (de|do|di) whatsapp (con|com|-)"
    r"|chat whatsapp con|conversa do whatsapp com|discussion whatsapp avec|чат whatsapp с"
    r"|whatsapp chat[ -]*|与(?=.+的 ?whatsapp)|和(?=.+的 ?whatsapp))\s*",
    re.I,
)
"""Start of the file name of an export; the rest is the name of the chat."""
TITLE_END = re.compile(
    r"\s*(的 ?whatsapp ?(聊天|对话|對話)(记录|紀錄)?|ile whatsapp sohbeti)$", re.I
)

ATTACHED_AFTER = (
    "file attached|datei angehängt|archivo adjunto|fichier joint|file allegato|arquivo anexado"
    "|ficheiro anexado|bestand bijgevoegd|файл добавлен|файл прикреплён|dosya ekli|文件附件|附件"
    "|已附加文件|ファイル添付|添付ファイル|파일 첨부됨|फ़ाइल संलग्न है|fil bifogad"
    "|fil vedlagt|plik załączony"
)
"""Android: `IMG-20211231-WA0001.jpg (file attached)`."""
ATTACHED_BEFORE = (
    "attached|anhang|adjunto|pièce jointe|allegato|anexado|anexo|bijgevoegd|прикреплено|вложение"
    "|eklendi|附件|已附加|添付ファイル|添付|첨부|bifogad|vedhæftet|załącznik|مرفق"
)
"""iOS: `<attached: 00000012-PHOTO-2021-12-31-21-41-05.jpg>`."""

OMITTED = (
    "media omitted|medien ausgeschlossen|multimedia omitido|archivo omitido|médias? omis"
    "|fichier omis|media omessi|mídia oculta|arquivo de mídia oculto|ficheiro não revelado"
    "|media weggelaten|без медиафайлов|medya dahil edilmedi|省略多媒体文件|多媒体文件已省略"
    "|已略去多媒體檔案|略過多媒體檔案|メディアは含まれていません|メディア非表示"
    "|미디어 파일을 제외했습니다"
    "|media utelämnad|uten media|मीडिया छोड़ा गया|تم استبعاد الوسائط|pominięto multimedia"
)
"""Android: the whole text is one of these in angle brackets; the kind of media is unknown."""

OMITTED_KINDS = {
    "image": "image omitted|bild weggelassen|imagen omitida|image absente|immagine omessa"
    "|imagem (?:ocultada|omitida)|afbeelding weggelaten"
    "|изображение (?:опущено|отсутствует|пропущено)"
    "|görüntü dahil edilmedi|(?:图像|图片)(?:已省略|已忽略|忽略)|(?:忽略|省略)(?:图像|图片)"
    "|(?:圖片|影像)已略去|略過圖片|画像は(?:省略されました|含まれていません)"
    "|사진 생략됨|이미지 생략됨",
    "video": "video omitted|video(?:nachricht)? weggelassen|video omitido|vidéo absente"
    "|video omesso|vídeo (?:ocultado|omitido)|video weggelaten"
    "|видео (?:опущено|отсутствует|пропущено)"
    "|video dahil edilmedi|视频(?:已省略|已忽略|忽略)|(?:忽略|省略)视频|影片已略去"
    "|動画は(?:省略されました|含まれていません)|동영상 생략됨|video note omitted",
    "voice message": "audio omitted|audio weggelassen|audio omitido|audio (?:omis|absent)"
    "|audio omesso|áudio (?:ocultado|omitido)|audio weggelaten"
    "|аудио(?:файл)? (?:опущено|отсутствует)"
    "|ses dahil edilmedi|音频(?:已省略|已忽略|忽略)|(?:忽略|省略)音频|音訊已略去"
    "|音声は(?:省略されました|含まれていません)|오디오 생략됨",
    "sticker": "sticker omitted|sticker weggelassen|sticker omitido|sticker omis|sticker omesso"
    "|figurinha omitida|sticker weggelaten|стикер (?:опущен|отсутствует)|çıkartma dahil edilmedi"
    "|贴图(?:已省略|已忽略|忽略)|(?:忽略|省略)贴图|貼圖已略去"
    "|スタンプは含まれていません|스티커 생략됨",
    "GIF": "gif omitted|gif weggelassen|gif omitido|gif (?:omis|absent)|gif omessa|gif omitida"
    "|gif weggelaten|gif опущено|gif dahil edilmedi|gif(?:已省略|已忽略)",
    "document": "document omitted|dokument weggelassen|documento omitido|document (?:omis|absent)"
    "|documento omesso|document weggelaten|документ (?:опущен|отсутствует)|belge dahil edilmedi"
    "|文件(?:已省略|已忽略)|文件已略去|文書は含まれていません|문서 생략됨",
    "contact": "contact card omitted|kontaktkarte ausgelassen|tarjeta de contacto omitida"
    "|fiche contact omise|scheda contatto omessa|cartão do contato omitido|名片已省略",
}
"""iOS: the whole text is one of these, usually after U+200E."""

DELETED = (
    "this message was deleted|you deleted this message|diese nachricht wurde gelöscht"
    "|du hast diese nachricht gelöscht|(?:se )?eliminó este mensaje|este mensaje fue eliminado"
    "|eliminaste este mensaje|ce message a été supprimé|vous avez supprimé ce message"
    "|questo messaggio è stato eliminato|hai eliminato questo messaggio|mensagem apagada"
    "|essa mensagem foi apagada|você apagou esta mensagem|dit bericht is verwijderd"
    "|данное сообщение удалено|вы удалили данное сообщение|bu mesaj silindi"
    "|此消息已删除|此消息已被删除"
    "|您删除了此消息|你删除了这条消息|此訊息已刪除|您已刪除此訊息"
    "|このメッセージは削除されました|삭제된 메시지입니다"
)
EDITED = (
    "this message was edited|diese nachricht wurde bearbeitet|(?:se )?editó este mensaje"
    "|ce message a été modifié|questo messaggio è stato modificato|mensagem editada"
    "|dit bericht is bewerkt|сообщение изменено|此消息已编辑|已编辑此消息|此訊息已編輯"
    "|このメッセージは編集されました"
)
NOTICES = (
    "end-to-end|ende-zu-ende|extremo a extremo|bout en bout|ponta a ponta|端到端|端對端"
    "|エンドツーエンド|종단간|сквозн|uçtan uca|created (?:this )?group|created this community"
    "|security code|changed the (?:subject|group)|changed this group|changed their phone number"
    "|joined using|added you|you were added|you added|you're now an admin"
    "|turned (?:on|off) disappear"
    "|you removed|you left|erstellt(?:e|est)? (?:diese|die) gruppe|has?t (?:die|diese) gruppe"
    "|has?t (?:das gruppenbild|die gruppenbeschreibung|die einstellungen dieser gruppe)"
    "|sicherheitsnummer|hinzugefügt|creó (?:este|el) grupo|código de seguridad"
    "|a créé (?:ce|le) groupe"
    "|code de sécurité|ha creato (?:questo|il) gruppo|criou (?:este|o) grupo"
    "|创建了群组|创建了此群组"
    "|建立了群組|安全代码|安全码|加入了群组|グループを作成"
)
"""iOS writes notices under the group's own name, after U+200E; only such lines are compared."""


def whole(words: str) -> re.Pattern[str]:
    """Match a whole text, apart from marks, brackets and a full stop."""
    return re.compile(rf"[<\[]?(?:{words})[>\]]?[.。]?$", re.I)
