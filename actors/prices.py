"""What a completion costs, by the price list of genai-prices."""

from decimal import ROUND_HALF_EVEN, Decimal

from actors.events import CompletionEvent
from errors import Discard

#: Costs are kept to this many decimals of a US dollar.  List prices have at most six decimals per
#: million tokens, so this loses nothing but the noise of prices that went through a float.
DECIMALS = 12
_QUANTUM = Decimal(1).scaleb(-DECIMALS)


class UnknownModel(Discard):
    """Raised when the price list does not have the provider or the model; trying again cannot help."""

    def __init__(self, provider: str, model: str) -> None:
        super().__init__(
            f"no price is known for model {model!r} of provider {provider!r}; "
            "correct the names, or update genai-prices and retry this job"
        )
        self.provider = provider
        self.model = model


def cost(completion: CompletionEvent) -> Decimal:
    """US dollars, exact to twelve decimals, at the list price of the moment of the call."""
    from genai_prices import Usage, calc_price  # it reads a price list: for those who ask for a price

    usage = Usage(
        input_tokens=completion.input_tokens,
        cache_read_tokens=completion.cached_tokens,
        output_tokens=completion.output_tokens,
    )
    try:
        price = calc_price(
            usage, completion.model, provider_id=completion.provider, genai_request_timestamp=completion.at
        )
    except LookupError as error:
        raise UnknownModel(completion.provider, completion.model) from error
    return price.total_price.quantize(_QUANTUM, rounding=ROUND_HALF_EVEN)
