"""Everyday lines and questions: the background that cosines are measured against."""

LINES = (
    "Ann: ok, thanks a lot!",
    "Ben: see you tomorrow then",
    "Cara: haha yes, exactly",
    "Dan: I am not sure, let me check and come back to you",
    "Eve: good morning everyone",
    "Finn: I will be there in ten minutes",
    "Gail: that sounds great, let's do it",
    "Hugo: sorry, I was in a meeting, what did I miss?",
    "Iris: could you send me the file again?",
    "Jon: no worries, take your time",
    "Kim: we should talk about the plan for next week",
    "Liv: my mother called me yesterday about the weekend",
    "Max: I bought some bread and milk on the way home",
    "Nora: the weather is really nice today",
    "Omar: I think the price is too high for what it is",
    "Pia: he said that the train was late again",
    "Quinn: do you want to have dinner with us?",
    "Rob: the new version works better than the old one",
    "Sue: I have been working on this all day",
    "Tom: it was a wonderful trip, we saw a lot of things",
)
"""Turns that answer nothing in particular."""

LINES_JOINED = (
    "小安: 好的，谢谢你！",
    "小白: 那明天见",
    "小陈: 哈哈哈，就是啊",
    "小丁: 我也不太清楚，我查一下再告诉你",
    "小方: 大家早上好",
    "小高: 我十分钟以后到",
    "小何: 听起来不错，就这么定了",
    "小江: 不好意思刚才在开会，你们说什么了？",
    "小李: 能不能再把文件发我一下？",
    "小马: 没关系，不着急",
    "小宁: 我们得说一下下周的安排",
    "小欧: 我妈昨天打电话说周末的事",
    "小彭: 我回家路上买了点面包和牛奶",
    "小钱: 今天天气真好",
    "小任: 我觉得这个价格有点贵",
    "小孙: 他说火车又晚点了",
    "小唐: 要不要和我们一起吃晚饭？",
    "小王: 新版本比旧的好用",
    "小徐: 我今天一直在忙这个",
    "小杨: 这次旅行很棒，看了很多东西",
)
"""The same for Chinese queries."""

QUESTIONS = (
    "who is coming tomorrow?",
    "when do we meet?",
    "where is the file?",
    "how much did it cost?",
    "why was it late?",
    "what did she say about the plan?",
    "photo of the dinner",
    "what they bought on the way",
    "discussion about the price",
    "the new version",
)
"""Queries about everyday things."""

QUESTIONS_JOINED = (
    "明天谁来",
    "我们几点见面",
    "文件在哪里",
    "花了多少钱",
    "为什么晚了",
    "她对这个计划怎么说",
    "晚饭的照片",
    "路上买了什么",
    "关于价格的讨论",
    "新版本",
)
"""The same in Chinese."""
