"""What a completion costs, by the price list of genai-prices."""

from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

from genai_prices import Usage, calc_price

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


def cost(
    provider: str, model: str, *, input_tokens: int, cached_tokens: int, output_tokens: int, at: datetime
) -> Decimal:
    """US dollars, exact to twelve decimals, at the list price of the moment ``at``.

    ``cached_tokens`` are those of the ``input_tokens`` that were read from the provider's cache.
    """
    usage = Usage(input_tokens=input_tokens, cache_read_tokens=cached_tokens, output_tokens=output_tokens)
    try:
        price = calc_price(usage, model, provider_id=provider, genai_request_timestamp=at)
    except LookupError as error:
        raise UnknownModel(provider, model) from error
    return price.total_price.quantize(_QUANTUM, rounding=ROUND_HALF_EVEN)
