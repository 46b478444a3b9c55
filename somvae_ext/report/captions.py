"""stub until the pictures branch is merged"""


def describe_picture(name: str) -> tuple[str, str]:
    title = name.removesuffix(".png").replace("_", " ").replace("-", " ")
    return title.capitalize(), ""
