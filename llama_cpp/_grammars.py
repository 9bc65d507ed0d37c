"""Ready-made grammars for common shapes of text."""

from __future__ import annotations

_JSON_PARTS = r"""
object ::= "{" ws (member ("," ws member)*)? "}" ws
member ::= string ":" ws value
array  ::= "[" ws (value ("," ws value)*)? "]" ws
string ::= "\"" ([^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}))* "\"" ws
number ::= "-"? ("0" | [1-9] [0-9]{0,19}) ("." [0-9]{1,20})? ([eE] [-+]? [0-9]{1,3})? ws
# little and bounded, so that an answer cannot be blanks alone
ws     ::= (" " | "\n" [ \t]{0,20})?
"""

JSON = (
    r"""# any JSON value
root   ::= value
value  ::= object | array | string | number | ("true" | "false" | "null") ws"""
    + _JSON_PARTS
)

JSON_OBJECTS = (
    r"""# a JSON array, one element per line
root   ::= "[\n" value (",\n" value)* "\n]" | "[]"
value  ::= object | array | string | number | ("true" | "false" | "null") ws"""
    + _JSON_PARTS
)

LIST = r"""# a list of items, one per line, each after a hyphen
root ::= item+
# no line break of any kind inside an item
item ::= "- " [^\r\n\x0B\x0C\u0085\u2028\u2029]+ "\n"
"""

ARITHMETIC = r"""# equations, one per line, such as (1 + x) * 3 = 7
root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] ws term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= " "?
"""

C = r"""# functions in a small part of C
root       ::= (function ws)+
function   ::= type gap name ws "(" ws (parameter ("," ws parameter)*)? ")" ws block
parameter  ::= type gap name ws
type       ::= "int" | "float" | "char" | "void"
block      ::= "{" ws (statement ws)* "}"
statement  ::= declaration | simple ";" | return | while | for | if | comment
declaration ::= type gap name ws ("=" ws sum)? ";"
simple     ::= name ws ("=" ws sum | "(" ws (sum ("," ws sum)*)? ")" ws)
return     ::= "return" (gap sum)? ";"
while      ::= "while" ws "(" ws condition ")" ws block
for        ::= "for" ws "(" ws (type gap)? simple ";" ws condition ";" ws simple ")" ws block
if         ::= "if" ws "(" ws condition ")" ws block (ws "else" ws block)?
condition  ::= sum (("==" | "!=" | "<=" | ">=" | "<" | ">") ws sum)?
sum        ::= product ([-+] ws product)*
product    ::= factor ([*/%] ws factor)*
factor     ::= "-"? (number | text | letter | name ws ("(" ws (sum ("," ws sum)*)? ")" ws)? | "(" ws sum ")" ws)
number     ::= [0-9]+ ("." [0-9]+)? ws
text       ::= "\"" ([^"\\\r\n] | "\\" [^\r\n])* "\"" ws
letter     ::= "'" ([^'\\\r\n] | "\\" [^\r\n]) "'" ws
comment    ::= "//" [^\n]* "\n"
name       ::= [a-zA-Z_] [a-zA-Z_0-9]*
gap        ::= [ \t\n]{1,20}
ws         ::= [ \t\n]{0,20}
"""

CHESS = r"""# a game of chess in algebraic notation: 1. e4 e5 2. Nf3 Nc6 …
root     ::= "1. " move " " move "\n" turn+
turn     ::= [1-9] [0-9]? ". " move " " move "\n"
move     ::= (pawn | piece | castle) [+#]?
# the file or rank that tells two pieces apart comes before the target
piece    ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
pawn     ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBQR])?
castle   ::= "O-O" "-O"?
"""

JAPANESE = r"""# Japanese text
root        ::= sentence+
sentence    ::= (hiragana | katakana | kanji | punctuation | digit)+ end
hiragana    ::= [ぁ-ゟ]
katakana    ::= [ァ-ヿ]
kanji       ::= [一-鿿々]
punctuation ::= [、，・「」『』（）〜]
digit       ::= [0-9０-９]
end         ::= [。！？] "\n"?
"""

ENGLISH = r"""# sentences of English words
root     ::= sentence (" " sentence)*
sentence ::= [A-Z] [a-z']* ([,;:]? " " word)* [.!?]
word     ::= [A-Za-z0-9] [A-Za-z0-9'-]*
"""
