"""The forms that the command line names are those of the table."""

from typing import get_args

from sepconvert.cli.options import Form, complete_forms
from sepconvert.separable.forms import FORMS, cli_name, names


def test_the_help_names_every_form() -> None:
    # A sentence kept by hand: to import the table would take a third of a second, more than the help itself.
    (_, option) = get_args(Form)
    assert all(cli_name(form) in option.help for form in FORMS)


def test_completion_offers_every_name_with_what_it_means() -> None:
    offered = dict(complete_forms())
    assert tuple(offered) == names()
    assert all(offered.values())
